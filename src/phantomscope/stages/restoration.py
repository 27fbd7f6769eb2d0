"""The stages of restoration: pairs, training, restored images, their measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.config.simulation import STRUCTURES
from phantomscope.downstream import care
from phantomscope.downstream.common import versions
from phantomscope.downstream.pairs import Float, cut_pair, image_pair, light_of
from phantomscope.downstream.pairs import places_of as places_in
from phantomscope.errors import PhantomscopeError
from phantomscope.images.axes import voxel_size as size_of_row
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.voxels import voxel_size
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.restoration import restoration_row, ring_rows
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.data import unannotated

NM = 1000.0  # per um
# Sketches and images whose pixels differ by more cannot share one optical model.
SAME_PIXEL = 0.01


class _Sources:
    """The super-resolution images of an arm, whatever folders they lie in."""

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        self.holders = {name: images for images in sets for name in images.ids}
        # By name: the order does not depend on shards.
        self.names = sorted(self.holders)

    def light(self, name: str) -> Float:
        return light_of(self.holders[name].image(name))

    def row(self, name: str) -> dict[str, Any]:
        return self.holders[name].row(name)

    def digest(self) -> str:
        """Return a SHA-256 of all pixels, as the manifests have them."""
        return fingerprint([[name, self.row(name)["sha256"]] for name in self.names])


def _opened(pairs_of: str, prepared: Path, sources: Sequence[Path]) -> _Sources:
    """Open what the pairs of an arm, or of the test part, are made of."""
    if pairs_of in ("mathematical", "diffusion"):
        if not sources:
            raise PhantomscopeError(
                f"pairs of the arm `{pairs_of}` need the folders of its images",
                where="--sources",
                fix="give the shards of `simulate` (mathematical) or the folder of "
                "`gather` (diffusion)",
            )
        return _Sources([ImageSet.open(folder) for folder in sources])
    if pairs_of == "experimental":
        return _Sources([unannotated(prepared)])
    if pairs_of == "test":
        return _Sources([ImageSet.open(prepared).select(split="test")])
    raise PhantomscopeError(
        f"there are no pairs of {pairs_of!r}",
        where="--pairs-of",
        fix="use mathematical, diffusion, experimental or test",
    )


def _pixel_nm(prepared: Path, sources: Sequence[Path]) -> float:
    """Return the side of a pixel of the real images; sketches must have the same."""
    size = voxel_size(ImageSet.open(prepared))
    if len(size) != 2 or size[0] is None or size[0] != size[1]:
        raise PhantomscopeError(
            "the optical model needs the side of a pixel, which these images do not "
            f"tell, or not as one number (y, x in um: {size})",
            where=prepared / "manifest.csv",
            fix="give it for your folder in um",
            example="source:\n  pixel_size_um: 0.027",
        )
    pixel = NM * size[0]
    for folder in sources:
        info = ImageSet.open(folder).info
        drawn = info.get("options", {}) if info.get("stage") == "simulate" else {}
        in_nm = drawn.get("organism") in STRUCTURES
        own = drawn["structures"]["pixel"] if in_nm else None
        if own is not None and abs(own / pixel - 1) > SAME_PIXEL:
            raise PhantomscopeError(
                f"sketches have pixels of {own:g} nm, the images of {pixel:g} nm",
                where="simulate.structures.pixel",
                fix="give sketches the pixels of the images",
                example=f"simulate:\n  structures:\n    pixel: {pixel:g}",
            )
    return pixel


def make_pairs(
    config: Config, *, prepared: Path, pairs: Output, pairs_of: str,
    sources: list[Path] = [],  # noqa: B006 (read only)
) -> None:  # fmt: skip
    """Compute widefield images: pairs to train an arm on, or those of the test part."""
    options = config.restore
    found = _opened(pairs_of, prepared, sources)
    if not found.names:
        raise PhantomscopeError(
            f"there is no image to make pairs of ({pairs_of})",
            where=prepared if not sources else sources[0],
            fix="give a source with more images, or leave out this arm",
        )
    pixel = _pixel_nm(prepared, sources)
    info: dict[str, Any] = {
        "stage": "make_pairs", "seed": config.seed, "pairs_of": pairs_of,
        "pixel_nm": pixel, "optics": options.optics.model_dump(mode="json"),
        "images": found.digest(),
    }  # fmt: skip
    if pairs_of == "test":
        _whole(config, found, pixel, info, pairs)
        return
    used, empty = _with_structure(found, options.patch, options.pairs, config, pairs_of)
    info |= {
        "patch": options.patch, "pairs": options.pairs, "sources": len(found.names),
        "used": len(used), "without_structure": empty,
    }  # fmt: skip
    with (
        ImageSetWriter(pairs, info) as writer,
        Progress("making pairs", options.pairs, unit="pairs") as progress,
    ):
        for place, name in enumerate(used):
            _cut(config, found, name, (place, len(used)), pixel, pairs_of, writer,
                 progress)  # fmt: skip


def _with_structure(
    found: _Sources, side: int, wanted: int, config: Config, arm: str
) -> tuple[list[str], list[str]]:
    """Choose the images that pairs are cut from, in random order; tell those without.

    All are used, or as many as there are pairs.
    """
    small = [n for n in found.names if min(_sides(found.row(n))) < side]
    if small:
        raise PhantomscopeError(
            f"a pair has {side} px, but the image {small[0]!r} (one of {len(small)}) "
            "is smaller",
            where="restore.patch",
            fix="take smaller pairs or larger images",
        )
    used: list[str] = []
    empty: list[str] = []
    order = generator(config.seed, "pairs", arm).permutation(len(found.names))
    for number in order:
        if len(used) == wanted:
            break
        name = found.names[int(number)]
        some = len(places_in(found.light(name), side)) > 0
        (used if some else empty).append(name)
    if empty:
        print(
            f"warning: {len(empty)} of {len(found.names)} images show no structure in "
            f"the middle of any {side} px, so no pair is cut from them: "
            f"{', '.join(sorted(empty)[:5])}{' ...' if len(empty) > 5 else ''}"
        )
    if not used:
        raise PhantomscopeError(
            f"none of the {len(empty)} images of the arm `{arm}` shows structure",
            where="restore.arms",
            fix="look at the images, or leave out this arm",
        )
    return used, sorted(empty)


def _sides(row: Mapping[str, Any]) -> tuple[int, int]:
    return int(row["height"]), int(row["width"])


def _cut(
    config: Config, found: _Sources, name: str, place: tuple[int, int], pixel: float,
    arm: str, writer: ImageSetWriter, progress: Progress,
) -> None:  # fmt: skip
    """Cut every pair of one image: the numbers from its place on, in steps of all."""
    options, light, corners = config.restore, None, None
    for number in range(place[0], options.pairs, place[1]):
        identifier = f"pair-{number:06d}"
        if identifier not in writer:
            if light is None or corners is None:
                light = found.light(name)
                corners = places_in(light, options.patch)
            rng = generator(config.seed, "pair", arm, number)
            y, x = (int(v) for v in corners[int(rng.integers(len(corners)))])
            turn = int(rng.integers(8))
            # The same light and background for the pair of this number in every arm.
            optical = generator(config.seed, "widefield", "train", identifier)
            pair = cut_pair(
                light, (y, x), options.patch, turn, pixel, options.optics, optical
            )
            writer.add(
                identifier, pair.counts, target=pair.target, pixel_size=pixel / NM,
                split="train", group=found.row(name)["group"], parent=name, top=y,
                left=x, turn=turn, seed=config.seed, photons=pair.photons,
                snr=pair.snr,
            )  # fmt: skip
        progress.advance()


def _whole(
    config: Config, found: _Sources, pixel: float, info: Mapping[str, Any],
    pairs: Path,
) -> None:  # fmt: skip
    """Image every image of the test part as a whole."""
    with (
        ImageSetWriter(pairs, info) as writer,
        Progress("making pairs", len(found.names), unit="pairs") as progress,
    ):
        for name in found.names:
            if name not in writer:
                light = found.light(name)
                if not light.any():
                    raise PhantomscopeError(
                        f"the test image {name!r} is the same everywhere",
                        where=found.holders[name].folder / "manifest.csv",
                        fix="remove it from the source, or split by group",
                    )
                optical = generator(config.seed, "widefield", "test", name)
                pair = image_pair(light, pixel, config.restore.optics, optical)
                writer.add(
                    name, pair.counts, target=pair.target, pixel_size=pixel / NM,
                    split="test", group=found.row(name)["group"], parent=name,
                    seed=config.seed, photons=pair.photons, snr=pair.snr,
                )  # fmt: skip
            progress.advance()


def train_restorer(
    config: Config, *, pairs: Path, folder: Output, seed: int = 0
) -> None:
    """Train CARE on the pairs of one arm; killed, it begins anew."""
    options = config.restore
    images = ImageSet.open(pairs).select(split="train")
    care.train(images, options.care, folder=folder, seed=seed, threads=options.threads)


def restore(config: Config, *, pairs: Path, folder: Path, restored: Output) -> None:
    """Restore the widefield images of the test part by a trained network."""
    images = ImageSet.open(pairs).select(split="test").having("target")
    options = config.restore
    network = care.load(folder, options.care.tile, options.threads)
    info = {
        "stage": "restore",
        "training": read_json(folder / "training.json"),
        "versions": versions(care.PACKAGES),
        "images": fingerprint(list(images.table["sha256"])),
    }
    with (
        ImageSetWriter(restored, info) as writer,
        Progress("restoring", len(images), unit="images") as progress,
    ):
        for name in images.ids:
            if name not in writer:
                row = images.row(name)
                writer.add(
                    name, network(images.image(name)),
                    pixel_size=images.voxel_size(name), split="test",
                    group=row["group"], parent=row["parent"],
                )  # fmt: skip
            progress.advance()


def evaluate_restoration(
    config: Config, *, pairs: Path, scores: Output, restored: Path | None = None
) -> None:
    """Compare restored images with the truth, or the widefield images themselves."""
    truth = ImageSet.open(pairs).select(split="test").having("target")
    found = truth if restored is None else ImageSet.open(restored)
    rows: list[dict[str, Any]] = []
    rings: list[pd.DataFrame] = []
    with Progress("measuring", len(truth), unit="images") as progress:
        for name, pixel in _pixels(truth):
            image, target = found.image(name), truth.target(name)
            group = truth.row(name)["group"]
            measured = restoration_row(target, image, pixel)
            rows.append({"id": name, "group": group, "pixel_nm": pixel, **measured})
            rings.append(ring_rows(target, image, pixel).assign(id=name))
            progress.advance()
    if not rows:
        raise PhantomscopeError(
            "there is no test image to measure",
            where=pairs / "manifest.csv",
            fix="give the folder of the pairs of the test part",
        )
    scores.mkdir(parents=True, exist_ok=True)
    write_text(scores / "images.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(scores / "rings.csv", pd.concat(rings).to_csv(index=False))


def _pixels(images: ImageSet) -> Iterator[tuple[str, float]]:
    """Yield each image's name and the side of its pixels in nm."""
    for name in images.ids:
        size = size_of_row(images.row(name))
        if size is None or len(set(np.round(size, 9))) != 1:
            raise PhantomscopeError(
                f"the image {name!r} does not tell the side of its pixels as one "
                "number, so there is no resolution in nm",
                where=images.folder / "manifest.csv",
                fix="give it for your folder in um, and run everything again",
                example="source:\n  pixel_size_um: 0.027",
            )
        yield name, NM * size[-1]


def tabulate_restoration(
    config: Config, *, root: Place, csv: Output, md: Output
) -> None:
    """Put resolution and accuracy of all arms into one table, with intervals."""
    from phantomscope.tables.restoration import restoration_rows, write_restoration

    rows = restoration_rows(root, config)
    write_restoration(rows, csv, md, confidence=config.evaluate.confidence)
