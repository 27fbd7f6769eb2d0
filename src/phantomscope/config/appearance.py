"""Options of the way forth and back of annotated images (Eschweiler & Stegmaier)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

Time = Annotated[int, Field(ge=1)]
Bins = Annotated[int, Field(ge=2, le=65536)]
Sampling = Literal["own", "ancestral"]
# The organisms of the papers, by the keys of their published values.
Organism = Literal[
    "", "ath", "ce", "tric", "gowt1", "hela", "mt", "mito", "jump", "worms", "bbbc026",
    "bbbc042", "microglia", "nuclei",
]  # fmt: skip
MAIN_BINS = 256


class Appearance(Section):
    """How near noised sketches are to noised images, and what comes back of both."""

    organism: Organism = option(
        "",
        "Which organism of a paper these images show, or stand in for. Of Eschweiler & "
        "Stegmaier: A. thaliana, C. elegans, T. castaneum, GOWT1 mouse stem cells, "
        "HeLa; of Saguy et al.: microtubules (`mt`), mitochondria (`mito`); of "
        "CellResDM: Cell Painting plates (`jump`); of Javer & Rittscher: videos of "
        "C. elegans (`worms`), hepatocytes and fibroblasts (`bbbc026`), astrocytes "
        "(`bbbc042`), microglia, and `nuclei`, which the paper does not have. Their "
        "published values are put beside ours.",
    )
    data_kind: Literal["real", "stand-in", "simulated"] = option(
        "stand-in",
        "`real`: the paper's own images; `stand-in`: other real images of the kind; "
        "`simulated`: images that were computed. Said in every row of the tables.",
    )
    times: list[Time] = option(
        lambda: [100, 200, 400, 600, 800, 1000],
        "Times to noise to, and to come back from. The way back costs a synthesis of "
        "each image, twice, for each.",
        min_length=1,
        paper="100, 200, 400, 600, 800, 1000",
    )
    sketch: Literal["nuclei", "membranes"] = option(
        "nuclei",
        "What is drawn of an annotation. `nuclei`: each cell as bright as its mean in "
        "the image; `membranes`: the borders between cells.",
    )
    background: Literal["mean", "zero"] = option(
        "mean",
        "Background of a sketch of nuclei: the mean of the image outside all cells, or "
        "the low limit of intensity.",
        paper="unstated",
    )
    membrane_radius: float = option(
        2.0, "Radius of the ball that makes membranes thick.", unit="px", ge=1,
        paper="2 (converter), 3 (simulator)",
    )  # fmt: skip
    membrane_decline: float = option(
        0.8,
        "Share of the light that a membrane has lost at the largest depth; it falls "
        "linearly.",
        ge=0,
        le=1,
        paper="unstated",
    )
    stack: int = option(
        1,
        "Of a volume of which single planes are annotated, the plane with most "
        "annotation is taken and stacked so often; 1: annotated as a whole.",
        ge=1,
        paper="8 (T. castaneum)",
    )
    mask_outside: bool = option(
        False,
        "Set everything outside the annotation to zero before images are compared.",
        paper="true (T. castaneum)",
    )
    bins: list[Bins] = option(
        lambda: [64, 256, 1024],
        "Bins of the histograms that are compared, all reported; 256 is the main one.",
        min_length=1,
        paper="unstated",
    )
    forward_images: int | None = option(
        None,
        "At most so many annotated training images are noised, evenly spread. `null`: "
        "all (a minute per 125 million voxels, on one core).",
        ge=1,
        paper="all",
    )
    images: int | None = option(
        4,
        "At most so many annotated test images are brought back, evenly spread. "
        "`null`: all.",
        ge=1,
        paper="all",
    )
    crop: int | None = option(
        128,
        "Side of what is brought back of an image, from the middle of its annotation. "
        "`null`: all of it.",
        unit="px",
        ge=16,
        paper="all",
    )
    crop_depth: int | None = option(
        32, "The same in depth, of volumes.", unit="px", ge=8, paper="all"
    )
    samplers: list[Sampling] = option(
        lambda: ["own"],
        "`own`: the sampler of `synthesise`, with at most `synthesise.steps`; "
        "`ancestral`: the paper's, which takes every step from t to 0.",
        min_length=1,
        paper="ancestral",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("times", "bins", "samplers"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        if MAIN_BINS not in self.bins:
            raise ValueError(f"`bins` must contain {MAIN_BINS}, the main one")
        return self
