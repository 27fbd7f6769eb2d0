"""Training jobs: what a tool is trained on, brought into the form that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.analysis import Segment
from phantomscope.downstream import cellpose, classical, stardist
from phantomscope.downstream.common import (
    Array,
    count_objects,
    labelled_anisotropy,
    logged,
)
from phantomscope.downstream.examples import (
    Example,
    chances,
    whole_images,
    within_memory,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import anisotropy, row_voxel_size

Value = TypeVar("Value")
# What a pixel takes in memory: intensity, label, and what tools make of them.
BYTES_PER_PIXEL = 10


def choose(choices: dict[str, Value], tool: str, done: str) -> Value:
    """Return what belongs to a tool, or raise an error that names those there are."""
    if tool not in choices:
        raise PhantomscopeError(
            f"{tool!r} is no segmentation tool that can be {done}",
            where="segment.tools",
            fix=f"use one of {', '.join(choices)}",
        )
    return choices[tool]


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes
    ----------
    examples : list of Example
        Annotated images with objects.
    options : Segment
        Options of the tools.
    seed : int
        Of everything random.
    state : Path
        Folder of the training state.
    dims : int
        2, or 3 for volumes.
    """

    examples: list[Example]
    options: Segment
    seed: int
    state: Path
    dims: int

    @property
    def chance(self) -> NDArray[np.float64]:
        """How often each example shall be seen, as shares of 1."""
        return chances(self.examples, self.options.sampling)

    @property
    def weights(self) -> list[int]:
        """How often to repeat each example for tools that draw them evenly."""
        return [round(float(c)) for c in self.chance / self.chance.min()]

    @cached_property
    def arrays(self) -> tuple[list[Array], list[Array]]:
        """All images and their labels."""
        images = [example.image() for example in self.examples]
        return images, [example.labels() for example in self.examples]

    @cached_property
    def anisotropy(self) -> float:
        """How many times larger a voxel is in z than in y and x; 1 in 2D."""
        if self.dims == 2:
            return 1.0
        if self.options.anisotropy != "auto":
            return self.options.anisotropy
        first = self.examples[0]
        known = anisotropy(row_voxel_size(first.images.row(first.identifier)))
        if known is not None:
            return known
        few = self.examples[:: -(-len(self.examples) // 8)]
        return labelled_anisotropy([example.labels() for example in few])

    def record(self) -> dict[str, Any]:
        """Return what was used, for `training.json`."""
        counts = self._counts()
        kinds = [example.kind for example in self.examples]
        shown: dict[str, Any] = {
            "images": len(self.examples),
            "objects": sum(counts),
            "dims": self.dims,
        }
        if self.dims == 3:
            shown["anisotropy"] = round(self.anisotropy, 4)
        sources: dict[str, dict[str, Any]] = {}
        for kind in dict.fromkeys(kinds):
            mine = [k for k, other in enumerate(kinds) if other == kind]
            sources[kind] = {
                "images": len(mine),
                "objects": sum(counts[k] for k in mine),
                "chance": round(float(self.chance[mine].sum()), 6),
            }
            # Whole sets are known by their manifest, parts by this alone.
            parts = [self.examples[k] for k in mine]
            if kind == "annotated":
                sources[kind]["used"] = [part.record() for part in parts]
        return {**shown, "sources": sources}

    def _counts(self) -> list[int]:
        """Count the objects of each example, by what was read before."""
        if "arrays" in vars(self):
            return [count_objects(labels) for labels in self.arrays[1]]
        return [len(example.objects.numbers) for example in self.examples]


def make_job(
    tool: str, training: ImageSet | Sequence[Example], options: Segment, seed: int,
    state: Path,
) -> Job:  # fmt: skip
    """Check what a tool shall be trained on.

    Tools that take arrays get as many images as memory holds, evenly spread.

    Raises
    ------
    PhantomscopeError
        If there is no labelled object, or there are images and volumes.
    """
    if isinstance(training, ImageSet):
        given, folder = whole_images(training, "annotated"), training.folder
        total = len(training)
    else:
        given, total = list(training), len(training)
        folder = given[0].images.folder if given else Path()
    dims = {len(example.shape) for example in given}
    if len(dims) > 1:
        raise PhantomscopeError(
            "there are images and volumes among the training images",
            where="segment.arms",
            fix="mix sets of the same dimension only",
        )
    if (tool, dims) != ("cellpose", {3}):
        given = within_memory(given, options.megavoxels)
    kept = [example for example in given if example.labels().any()]
    if not kept:
        raise PhantomscopeError(
            f"none of the {total} training images has a labelled object",
            where=folder / "manifest.csv",
            fix="give `source.labels`, or train on a set that has labels",
        )
    return Job(kept, options, seed, state, dims.pop())


def _train_cellpose(job: Job, folder: Path) -> None:
    if job.dims == 3:
        from phantomscope.downstream import cellpose3d  # with torch

        cellpose3d.train(
            job.examples, job.chance, job.options.cellpose.volumes, folder=folder,
            state=job.state, seed=job.seed, threads=job.options.threads,
            memory=BYTES_PER_PIXEL * 10**6 * job.options.megavoxels,
        )  # fmt: skip
        return
    with logged(folder):
        cellpose.train(
            *job.arrays, job.options.cellpose, folder=folder, seed=job.seed,
            threads=job.options.threads, chance=job.chance,
        )  # fmt: skip


def _train_stardist(job: Job, folder: Path) -> None:
    with logged(folder):
        stardist.train(
            *job.arrays, job.options.stardist, folder=folder, seed=job.seed,
            threads=job.options.threads, weights=job.weights, anisotropy=job.anisotropy,
        )  # fmt: skip


def _tune_classical(job: Job, folder: Path) -> None:
    images, labels = job.arrays
    with logged(folder):
        sigma = classical.tune(
            images, labels, job.options.classical.sigmas, anisotropy=job.anisotropy,
            planes=[example.planes for example in job.examples],
        )  # fmt: skip
    found = {"sigma": sigma, "anisotropy": job.anisotropy}
    write_json(folder / "parameters.json", found)


# Tools that are tuned by their scores, which take single annotated planes of a volume;
# the others learn from whole ones.
LEARNS_FROM_PLANES = frozenset({"otsu_watershed"})
TRAINERS: dict[str, Callable[[Job, Path], None]] = {
    "cellpose": _train_cellpose,
    "stardist": _train_stardist,
    "otsu_watershed": _tune_classical,
}
