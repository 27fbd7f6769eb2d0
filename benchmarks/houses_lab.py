"""The experiment in which the main job and semantic filtering meet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.laboratory import Laboratory
from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.engine.model import DiffusionModel

# What does not move is a series all the same.
STILL = {"speed": 0.0, "turning": 0.0, "division": 0.0}


@dataclass(frozen=True)
class Sizes:
    """How large the experiment is.

    Attributes
    ----------
    steps : int
        Of the diffusion model: so few that there are phantoms.
    start, evaluations : int
        Where the way back starts, and in how many steps it goes.
    sketches, draws, side : int
        Sketches, draws of each, and their side in px.
    filter_steps : int
        Of the remover of phantoms.
    compose_steps, compose_side, tests : int
        Of filters that learn from composed images, the side of these (px), and how many
        test them.
    grounds, ground_start : int
        Synthesised backgrounds, and where their way back starts: an empty sketch says
        so little that much noise would fill it with cells.
    seeds : tuple of int
        Trainings of each filter on composed images, and of each segmenter.
    segment_steps : int
        Of a segmenter.
    network : str
        Of all filters.
    resamples : int
        Of the intervals of phantoms and realism.
    """

    steps: int = 500
    start: int = 700
    evaluations: int = 5
    sketches: int = 40
    draws: int = 6
    side: int = 128
    filter_steps: int = 300
    compose_steps: int = 600
    compose_side: int = 96
    tests: int = 40
    grounds: int = 4
    ground_start: int = 300
    seeds: tuple[int, ...] = (0,)
    segment_steps: int = 300
    network: str = "eschweiler"
    resamples: int = 500


class House:
    """Options of both houses, and a folder whose name tells them.

    Parameters
    ----------
    folder : Path
        Gets a folder for these sizes; what is finished there is not made again.
    sizes : Sizes
        How large everything is.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.sizes = sizes
        name = sha256(repr(sorted(asdict(sizes).items())).encode()).hexdigest()[:10]
        self.folder = folder / name
        self.lab = Laboratory(self.folder, make_config(self._main(), "houses"))

    def _main(self) -> dict[str, Any]:
        own = self.sizes
        return {
            "experiment": "houses",
            "train": {"steps": own.steps, "warmup": min(100, own.steps // 2)},
            "simulate": {
                "images": own.sketches * own.draws, "frames": own.draws,
                "size": [own.side, own.side], "shards": 1, "motion": STILL,
            },
            "start": {"value": own.start},
            "synthesise": {"steps": own.evaluations, "compile": "never"},
            "segment": {"stardist": {"steps": own.segment_steps}},
        }  # fmt: skip

    def _filter(
        self, steps: int, batch: int, loss: str, options: dict[str, Any]
    ) -> Config:
        content = {
            "experiment": "houses", "filter": options,
            "network": {"preset": self.sizes.network},
            "train": {"steps": steps, "batch_size": batch, "loss": loss,
                      "warmup": min(100, steps // 2)},
            "synthesise": {"tile": 128, "overlap": 32, "compile": "never"},
        }  # fmt: skip
        return make_config(content, "houses")

    @cached_property
    def remover(self) -> Config:
        """Options of the remover of phantoms: of what varies, it takes the median."""
        return self._filter(self.sizes.filter_steps, 8, "mae", {
            "methods": ["filter", "median"], "targets": ["phantom"], "pairs": "video",
            "truth": "masks", "folds": 2, "compose": {"share": "scene"},
            "objects": {"rule": "otsu"},
        })  # fmt: skip

    @cached_property
    def composer(self) -> Config:
        """Options of filters that learn from composed images: large nuclei are kept.

        The median of a layer that is mostly empty is nothing, hence the mean.
        """
        return self._filter(self.sizes.compose_steps, 4, "mse", self._composing())

    @cached_property
    def tester(self) -> Config:
        """The same, tested on real images, whose large nuclei are known."""
        options = self._composing() | {"truth": "masks"}
        return self._filter(self.sizes.compose_steps, 4, "mse", options)

    def _composing(self) -> dict[str, Any]:
        return {
            "methods": ["filter"], "targets": ["large"], "truth": "layers",
            "tests": self.sizes.tests,
            "crops": {"size_limit": 450, "background_dilation": 3},
            "compose": {
                "size": self.sizes.compose_side, "targets": [1, 3], "others": [1, 3],
                "factor": [0.7, 1.3], "max_overlap": 0.5, "outside": 0.3,
            },
            "objects": {"min_area": 60},
        }  # fmt: skip

    @property
    def value_range(self) -> tuple[float, float]:
        """Range of the diffusion model."""
        return DiffusionModel.load(self.lab.model).value_range

    def prepare(self) -> None:
        """Fit the sketches and train the diffusion model."""
        if not self.lab.sketch.exists():
            self.lab.prepare()
        if not self.lab.model.exists():
            self.lab.train(self.sizes.start)
