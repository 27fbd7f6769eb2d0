"""The datasheet of a published set: what it is, how it was made, what it is not.

After Gebru et al., Datasheets for Datasets, Communications of the ACM 64(12), 86-92
(2021): the seven sections of their questions, answered from what the stages recorded.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope import __version__
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import VoxelSize
from phantomscope.provenance import SUFFIX, load, source_commit
from phantomscope.tables.headline import copying
from phantomscope.tables.licence import choose_licence, licence_note

Content = dict[str, Any]

SOFTWARE = "the Phantomscope developers. Phantomscope, version {version}. BSD-3-Clause."
PAPERS = {
    "10.1371/journal.pcbi.1011890": "Eschweiler D. et al. Denoising diffusion "
    "probabilistic models for generation of realistic fully-annotated microscopy image "
    "datasets. PLOS Computational Biology 20, e1011890 (2024).",
    "10.48550/arXiv.2301.10227": "Eschweiler D., Stegmaier J. Denoising diffusion "
    "probabilistic models for generation of realistic fully-annotated microscopy image "
    "data sets. arXiv:2301.10227 (2023).",
}  # fmt: skip
KEYWORDS = ("microscopy", "synthetic data", "instance segmentation", "diffusion model")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MEMORISATION = "memorisation.csv"
# Lists of each image in the notes of a stage, which the manifest has as well.
_LONG = ("sketches", "numbers")


@dataclass
class Tally:
    """What was counted while the images were exported; it grows with no image.

    Attributes
    ----------
    shapes : Counter
        Size ([Z,] Y, X) to number of images.
    objects : Counter
        Number of objects in an image to number of images.
    sizes : Counter
        Voxels of an object to number of objects.
    """

    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    objects: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes: int = 0

    def add(
        self, shape: Sequence[int], sizes: Iterable[int], kind: str,
        file_sizes: Sequence[int],
    ) -> None:  # fmt: skip
        """Count one image."""
        sizes = list(sizes)
        self.shapes[tuple(shape)] += 1
        self.objects[len(sizes)] += 1
        self.sizes.update(sizes)
        self.types[kind] += 1
        self.files += len(file_sizes)
        self.bytes += sum(file_sizes)


def summarise(counts: Mapping[int, int]) -> dict[str, float]:
    """Return number, mean and quantiles of values that are counted.

    Parameters
    ----------
    counts : Mapping
        Value to how often it occurs.

    Returns
    -------
    dict
        `n`, `mean`, and `q00` to `q100`: the smallest value that at least this
        percentage of all values does not exceed. Only `n` if there is none.
    """
    total = sum(counts.values())
    if not total:
        return {"n": 0}
    values = np.array(sorted(counts))
    below = np.cumsum([counts[int(v)] for v in values])
    found: dict[str, float] = {"n": total}
    found["mean"] = float(np.dot(values, np.diff(below, prepend=0)) / total)
    for level in QUANTILES:
        place = int(np.searchsorted(below, level * total))
        found[f"q{round(100 * level):02}"] = float(values[min(place, len(values) - 1)])
    return found


def diameters(sizes: Mapping[str, float], dims: int, scale: float) -> dict[str, float]:
    """Turn the quantiles of areas or volumes into those of equivalent diameters.

    Parameters
    ----------
    sizes : Mapping
        See `summarise`, in voxels.
    dims : int
        2 for the circle of the same area, 3 for the sphere of the same volume.
    scale : float
        Area or volume of a voxel; diameters have the unit of its root.
    """
    unit = math.pi / 4 if dims == 2 else math.pi / 6
    return {
        name: float((value * scale / unit) ** (1 / dims))
        for name, value in sizes.items()
        if name.startswith("q")
    }


def makers(images: ImageSet) -> tuple[list[Content], list[Content]]:
    """Return how the images of a set were made.

    Parameters
    ----------
    images : ImageSet
        Its manifest may point into other sets: each was made by a stage.

    Returns
    -------
    notes : list of dict
        Each different `info.json` of these sets: stage, options, model, t_start.
    runs : list of dict
        Each different commit with the versions of the packages, from the provenance
        records beside the sets; empty without any.
    """
    folders = {str((images.folder / p).parent.parent) for p in images.table["image"]}
    notes: dict[str, Content] = {}
    runs: dict[str, Content] = {}
    for folder in sorted(folders):
        info, record = Path(folder, "info.json"), Path(folder + SUFFIX)
        if info.exists():
            note = {k: v for k, v in read_json(info).items() if k not in _LONG}
            notes.setdefault(json.dumps(note, sort_keys=True), note)
        if record.exists():
            made = load(record)
            run = {"commit": made.commit, "versions": made.versions}
            runs.setdefault(json.dumps(run, sort_keys=True), run)
    return list(notes.values()), list(runs.values())


def describe(
    config: Config, *, source: ImageSet, images: ImageSet, size: VoxelSize,
    tally: Tally, sketch: Content | None, memorisation: Path | None,
) -> Content:  # fmt: skip
    """Gather everything that the datasheet says, as plain values.

    Parameters
    ----------
    config : Config
        Of the experiment.
    source : ImageSet
        The real images.
    images : ImageSet
        The synthetic set, as checked; beside its manifest may lie `summary.json`.
    size : tuple of float or None
        Voxel size in um.
    tally : Tally
        What was counted.
    sketch : dict, optional
        Parameters of the sketches.
    memorisation : Path, optional
        Table of the search for copies of training images.

    Raises
    ------
    PhantomscopeError
        If the licence of the source does not allow it (see `choose_licence`).
    """
    options, about = config.publish, source.info
    name = str(about.get("title") or about.get("name") or config.name)
    stated = str(about.get("licence") or "")
    summary = images.folder / "summary.json"
    notes, runs = makers(images)
    content: Content = {
        "format": 1,
        "title": options.title or f"Synthetic microscopy images with labels: {name}",
        "version": options.version,
        "creators": [creator._asdict() for creator in options.people],
        "description": options.description,
        "contact": options.contact,
        "funding": options.funding,
        "keywords": list(dict.fromkeys([*KEYWORDS, *options.keywords])),
        "licence": choose_licence(stated, options.licence),
        "source": {
            "name": name,
            "origin": str(about.get("origin") or ""),
            "citation": str(about.get("citation") or ""),
            "licence": stated,
            "images": {part: len(source.select(split=part)) for part in _PARTS},
            "groups": int(source.select(split="train").table["group"].nunique()),
        },
        "composition": _composition(images, size, tally),
        "checks": read_json(summary) if summary.exists() else None,
        "check_limits": config.check.model_dump(),
        "generation": {
            "experiment": config.name,
            "scale": config.scale,
            "seed": config.seed,
            "made_by": notes,
            "runs": runs,
            "sketch": sketch,
            "config": _without_places(config.model_dump(mode="json")),
        },
        "exported_by": {"version": __version__, "commit": source_commit()},
        "formats": list(options.formats),
        "ngff": options.ngff,
        "packed": options.pack,
        "citations": [*PAPERS.values(), SOFTWARE.format(version=__version__)],
    }
    content["licence_note"] = licence_note(stated, content["licence"], options.licence)
    content["limits"] = _limits(content, _copies(memorisation))
    return content


def _copies(memorisation: Path | None) -> str | None:
    """Say whether training images are repeated; nothing if nobody looked."""
    if memorisation is None:
        return None
    if memorisation.name != MEMORISATION:
        raise PhantomscopeError(
            f"this is not the {MEMORISATION} of an experiment",
            where=memorisation,
            fix=f"give results/<experiment>/{MEMORISATION}, which `measure-realism` "
            "writes",
        )
    found = copying(memorisation.parent)
    return found[1] if found else None


_PARTS = ("train", "test")
# Options that name a place on the publisher's machine, which is nobody's business.
_PLACES = (
    ("source", "path"), ("source", "labels"), ("source", "registry"),
    ("source", "mirror"), ("source", "downloads"), ("condition", "segmenter"),
    ("fit", "parameters"),
)  # fmt: skip


def _without_places(config: Content) -> Content:
    """Leave of each path in a config its last name."""
    for section, option in _PLACES:
        if place := config[section][option]:
            config[section][option] = Path(place).name
    return config


def _composition(images: ImageSet, size: VoxelSize, tally: Tally) -> Content:
    dims = len(next(iter(tally.shapes)))
    sizes = summarise(tally.sizes)
    known = [length for length in size if length is not None]
    found: Content = {
        "images": len(images),
        "dims": dims,
        "axes": "ZYX"[-dims:],
        "dtype": sorted(set(images.table["dtype"])),
        "voxel_size_um": list(size),
        "shapes": [{"shape": list(s), "images": n} for s, n in sorted(
            tally.shapes.items())],
        "types": dict(sorted(tally.types.items())),
        "objects": sizes["n"],
        "objects_per_image": summarise(tally.objects),
        "size_voxels": sizes,
        "diameter_px": diameters(sizes, dims, 1.0),
        "diameter_um": {},
        "files": tally.files,
        "bytes": tally.bytes,
    }  # fmt: skip
    if len(known) == dims:
        found["diameter_um"] = diameters(sizes, dims, math.prod(known))
    return found


def _limits(content: Content, copies: str | None) -> list[str]:
    """Say what a user must know; computed, and as cautious as the data."""
    source, made = content["source"], content["composition"]
    said = [
        "Numbers, sizes and positions of the objects are those of a simulator: nothing "
        "can be learnt from them about the organism.",
        f"The appearance was learnt from this much (real training images: "
        f"{source['images']['train']}, independent groups: {source['groups']}): other "
        "microscopes, stains and days look otherwise.",
        "A label is the outline that was drawn before the image was made. The image "
        "may differ from it by a pixel or two, and may show objects without a label.",
    ]
    if (content["generation"]["sketch"] or {}).get("shape_model"):
        said.append(
            "The shape of the organ was learnt from annotation of real volumes, which "
            "are not independent of these for that reason."
        )
    checks = content["checks"]
    if checks is None:
        said.append("Nobody compared the images with their labels.")
    elif checks["rejected"]:
        share = checks["rejected"] / max(checks["images"], 1)
        said.append(
            f"{share:.0%} of the images were rejected because they did not show what "
            "their labels say: what is left may show the easier cases."
        )
    said.append(copies or "Whether training images are repeated was not measured.")
    if None in made["voxel_size_um"]:
        axes = [a for a, s in zip(made["axes"], made["voxel_size_um"], strict=True)
                if s is None]  # fmt: skip
        said.append(
            f"The voxel size along {', '.join(axes)} is not known; files give 1 "
            "without a unit there."
        )
    if content["generation"]["scale"] in ("smoke", "demo"):
        said.append(
            f"It was made by a run of the scale `{content['generation']['scale']}`: "
            "a short training of a small model."
        )
    return said
