"""Stages of the source of images: fetched, read, divided and scaled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phantomscope.acquire import split
from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.acquire.source import acquire as acquire_source
from phantomscope.acquire.source import fetch
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation, fit_normalisation
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.stages.arguments import Output


def unannotated(prepared: Path) -> ImageSet:
    """Open the training part as if nobody had annotated it.

    Everything between preparation and synthesis sees the images through this.
    """
    images = ImageSet.open(prepared).select(split="train").without_masks()
    if not len(images):
        raise PhantomscopeError(
            "no image of this set is in the training part",
            where=prepared / "manifest.csv",
            fix="give the folder that `prepare` writes",
        )
    return images


def kind_of(parameters: SketchParameters, name: str, sketch: Path) -> SketchType:
    """Return the parameters of a type by its name."""
    for kind in parameters.types:
        if kind.name == name:
            return kind
    raise PhantomscopeError(
        f"there is no type {name!r} in this file, but images of it",
        where=sketch,
        fix="it was edited after they were made: run `simulate` and `synthesise` again",
    )


def download(config: Config, *, target: Output) -> None:
    """Download one file of a public data set, or copy it from a mirror."""
    fetch(config.source, target)


def acquire(
    config: Config,
    *,
    images: Output,
    files: list[Path] = [],  # noqa: B006 (read only)
) -> None:
    """Make an image set of the packaged images, your folder or a public data set."""
    acquire_source(config.source, images, files)


def prepare(
    config: Config, *, images: Path, prepared: Output, normalisation: Output
) -> None:
    """Divide into training and test part and fit the intensity range."""
    split.prepare(ImageSet.open(images), config.split, config.seed, prepared)
    everything = ImageSet.open(prepared)
    assert_disjoint(everything)
    fit_normalisation(
        everything.select(split="train").without_masks(),
        everything.select(split="test").without_masks(),
        config.normalise,
    ).save(normalisation)


def exposure(row: dict[str, Any]) -> int:
    """Return the number that says how a sketch is exposed: all of a series alike."""
    return int(str(row["group"]).rsplit("-", 1)[1])


def raw_limits(
    scale: Normalisation, prepared: ImageSet, kind: str, seed: int, number: int
) -> str:
    """Return the training image whose intensity limits a synthetic image takes.

    With limits per image, one of the same type is drawn; so synthetic images are as
    mixed in exposure as the real ones.
    """
    table = prepared.table
    same = table.index[table["stratum"] == kind]
    identifiers = list(same) if len(same) else prepared.ids
    rng = generator(seed, "limits", number)
    return str(identifiers[int(rng.integers(len(identifiers)))])
