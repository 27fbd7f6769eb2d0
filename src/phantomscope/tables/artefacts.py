"""Reading what the stages left below ``results/<experiment>/``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation

Array = NDArray[Any]
# What to call the source images, by the `data_kind` of a run.
SOURCES = {"real": "real", "stand-in": "stand-in", "simulated": "simulated source"}


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV or TSV file; ids and groups stay text.

    Raises
    ------
    PhantomscopeError
        If it is missing or no table.
    """
    text = dict.fromkeys(("id", "group", "reason", "kind", "source", "type"), str)
    with explain_os_errors(path):
        try:
            return pd.read_csv(
                path,
                dtype=text,
                keep_default_na=False,
                na_values=["", "nan"],
                **options,
            )
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except (ValueError, UnicodeDecodeError) as error:
            raise PhantomscopeError(
                f"this table is broken ({error})",
                where=path,
                fix="delete it and run the same command again",
            ) from error


def read_lines(path: Path) -> pd.DataFrame:
    """Read a file of JSON lines; a torn last line is left out."""
    rows = []
    with explain_os_errors(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return pd.DataFrame(rows)


def shards(folder: Path, most: int = 10) -> list[ImageSet]:
    """Open the set in `folder`, or some of its shards, evenly spread."""
    if (folder / "manifest.csv").exists():
        return [ImageSet.open(folder)]
    found = sorted(path.parent.name for path in folder.glob("*/manifest.csv"))
    return [ImageSet.open(folder / name) for name in pick(found, most)]


def holder(sets: Sequence[ImageSet], identifier: str) -> ImageSet | None:
    """Return the set that has this image."""
    for images in sets:
        if identifier in images.table.index:
            return images
    return None


def pick(identifiers: Sequence[str], count: int) -> list[str]:
    """Return up to `count` ids, evenly spread: nobody chose the beautiful ones."""
    if not identifiers:
        return []
    places = np.linspace(0, len(identifiers) - 1, min(count, len(identifiers)))
    return [identifiers[round(float(place))] for place in places]


def display_unit(
    norm: Normalisation, images: ImageSet, identifier: str, part: Array | None = None
) -> Array:
    """Read an image and scale it with the limits of the training images.

    A synthetic image names in its column `limits` the training image whose limits it
    took; one without any is scaled by its own percentiles. `part` is what was read of
    it already.
    """
    image = images.image(identifier) if part is None else part
    name = str(images.row(identifier).get("limits", identifier))
    if name in norm.limits:
        low, high = norm.limits[name]
    elif norm.scope == "dataset" and norm.limits:
        low, high = next(iter(norm.limits.values()))
    else:
        low, high = (float(v) for v in np.percentile(image, [0.1, 99.9]))
    scaled: Array = (image.astype(np.float64) - low) / max(high - low, 1e-12)
    return scaled


def origin(config: Config) -> str:
    """Return what to call the source images: ``real``, or what stands in for them."""
    return SOURCES[config.data_kind]


def pixel_size(images: ImageSet) -> float | None:
    """Return the pixel size in um, None if unknown or not the same everywhere."""
    sizes = pd.to_numeric(images.table["pixel_size"], errors="coerce").dropna().unique()
    return float(sizes[0]) if len(sizes) == 1 else None
