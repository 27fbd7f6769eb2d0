"""Options of time series that are read: which frames to use."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

FrameNumber = Annotated[int, Field(ge=0)]


class Frames(Section):
    """Which frames of time series to use."""

    first: int = option(0, "Number of the first frame.", ge=0)
    last: int | None = option(
        None, "Number of the last frame, itself included. Empty: to the end.", ge=0
    )
    every: int = option(1, "Use every n-th frame, counted from `first`.", ge=1)
    only: list[FrameNumber] | None = option(
        None, "Use exactly these frames of each series instead.", min_length=1
    )
    limit: int | None = option(
        None,
        "Use at most this many frames of each series, evenly spread over those that "
        "the other options leave.",
        ge=1,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"`last: {self.last}` is before `first: {self.first}`")
        if self.only is not None and (self.first, self.last, self.every) != (
            0,
            None,
            1,
        ):
            raise ValueError(
                "`only` stands alone: leave out `first`, `last` and `every`"
            )
        return self

    def __contains__(self, number: int) -> bool:
        """Whether a frame may be used, before `limit`."""
        if self.only is not None:
            return number in self.only
        last = number if self.last is None else self.last
        return self.first <= number <= last and (number - self.first) % self.every == 0
