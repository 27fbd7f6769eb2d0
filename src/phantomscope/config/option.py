"""How one option is declared: default, meaning, unit, bounds and the paper's value."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def option(
    default: Any,
    description: str,
    *,
    unit: str = "",
    paper: str = "",
    **bounds: Any,
) -> Any:
    """Declare an option of the config.

    Parameters
    ----------
    default : Any
        The default value; a callable without arguments makes a fresh default.
    description : str
        What the option does, and what it costs, in one or two sentences.
    unit : str
        Physical unit, such as ``px`` or ``um``.
    paper : str
        The value in the paper that the option comes from.
    **bounds
        ``ge``, ``gt``, ``le``, ``lt``, ``min_length`` ... of `pydantic.Field`.
    """
    extra: dict[str, Any] = {"unit": unit, "paper": paper}
    if callable(default):
        bounds["default_factory"] = default
    else:
        bounds["default"] = default
    return Field(description=description, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """A section of the config: typos are refused, values cannot change later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
