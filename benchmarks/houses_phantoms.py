"""Semantic filtering as a remover of phantom cells in synthetic images.

One sketch is brought back several times with other noise. These draws are the frames of
a video of a still scene in which only phantoms move: a filter that learns from pairs of
draws keeps what both have, which is what the sketch asked for. Sketches that are tested
are never those of the training: two halves change roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.houses_lab import House
from benchmarks.houses_scores import SCORES, changed, sums, with_chosen
from benchmarks.quality import real_sample
from benchmarks.quality_losses import Comparison, Outcome, sample
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.fidelity import check_fidelity, find_phantoms
from phantomscope.measure.foreground import by_area, removed_objects
from phantomscope.measure.membranes import ball_volume
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.stages import filtered, filtering, sketching, synthesis

Float = NDArray[np.float32]
Labels = NDArray[Any]
FOLDS, TARGET = 2, "phantom"
# What a draw becomes; the last three need all draws of a sketch.
SINGLE = ("none", "filter", "patched", "spared")
SEVERAL = ("median", "median_spared", "best", "dropped")
# Draws of a sketch whose texture is compared with real images.
COMPARED = 2
# An object is lost that has less than this share of the light of the draws' median.
LOST = 0.5


def make_draws(house: House) -> ImageSet:
    """Draw the sketches, and bring each back with noise of its own: frames of series.

    Nothing moves between the frames, so that all have one sketch and one photograph's
    limits.
    """
    lab, sketches = house.lab, house.folder / "sketches"
    draws = house.folder / "draws"
    if not sketches.exists():
        sketching.simulate(lab.config, sketch=lab.sketch, sketches=sketches)
    if not draws.exists():
        synthesis.synthesise(
            lab.config, prepared=lab.prepared, normalisation=lab.normalisation,
            model=lab.model, start=lab.start, sketches=sketches, synthetic=draws,
        )  # fmt: skip
    return ImageSet.open(draws)


def filter_draws(house: House) -> dict[str, list[ImageSet]]:
    """Train on each half of the sketches, and filter the other one."""
    folder, config = house.folder, house.remover
    found: dict[str, list[ImageSet]] = {"filter": [], "median": []}
    for fold in range(FOLDS):
        model = folder / f"remover-{fold}.pt"
        if not model.exists():
            filtering.train_filter(
                config, prepared=folder / "draws", model=model,
                metrics=folder / f"remover-{fold}.jsonl",
                state=folder / f"remover-{fold}.state", target=TARGET,
                method="filter", fold=fold,
            )  # fmt: skip
        for method, parts in found.items():
            place = folder / f"scenes/{method}-{fold}"
            if not place.exists():
                filtered.filter_images(
                    config, tested=folder / "draws", found=place, target=TARGET,
                    model=model, method=method, fold=fold,
                )  # fmt: skip
            parts.append(ImageSet.open(place))
    return found


def patched(
    image: Float, scene: Float, least: float, step: float,
    free: NDArray[np.bool_] | None = None,
) -> Float:  # fmt: skip
    """Put a scene where an image is brighter than it, and leave the rest as it was.

    Parameters
    ----------
    image, scene : ndarray, shape (Y, X)
        From 0 to 1.
    least : float
        Smaller differences stay, px.
    step : float
        Least difference.
    free : ndarray of bool, shape (Y, X), optional
        Where anything may be replaced.
    """
    # Noise is no difference.
    smooth = [ndimage.gaussian_filter(one, 1.0) for one in (scene, image)]
    mask = removed_objects(smooth[0], smooth[1], step=step)
    mask = by_area(ndimage.label(mask)[0], least) > 0
    mask = ndimage.binary_dilation(mask, iterations=3)
    if free is not None:
        mask &= free
    cover = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
    found: Float = image + cover * (scene - image)
    return found


def heights(image: Float, labels: Labels) -> NDArray[np.float64]:
    """Return by how much each object is brighter than the background's median."""
    numbers = np.unique(labels[labels > 0])
    inside = np.asarray(ndimage.mean(image, labels, numbers), np.float64)
    return inside - float(np.median(image[labels == 0]))


def light_in(image: Float, labels: Labels, masks: Sequence[NDArray[np.bool_]]) -> float:
    """Return the light above the background's median in a mask, mean over masks, px."""
    above = image - float(np.median(image[labels == 0]))
    return float(np.mean([above[mask].sum() for mask in masks]))


@dataclass(frozen=True)
class Scale:
    """What intensities and sizes mean.

    Attributes
    ----------
    units : Normalisation
        Of the main job.
    divisor, step : float
        Of the filter: intensity that is 1, and the least difference that counts.
    radius : float
        Of a typical object, px.
    """

    units: Normalisation
    divisor: float
    step: float
    radius: float

    @classmethod
    def of(cls, house: House) -> Scale:
        """Read it."""
        (kind,) = SketchParameters.load(house.lab.sketch).types
        options = house.remover.filter
        return cls(
            Normalisation.load(house.lab.normalisation), options.scale.divisor,
            options.objects.step, kind.radius[3],
        )  # fmt: skip

    @property
    def area(self) -> float:
        """Size of a typical object, px."""
        return ball_volume(self.radius, 2)

    @property
    def least(self) -> float:
        """Size of what is replaced at least, px: a quarter of the least phantom."""
        return self.area / 12

    def stored(self, image: Float) -> NDArray[np.uint16]:
        """Return intensities as they are stored."""
        return np.rint(np.clip(image, 0, 1) * self.divisor).astype(np.uint16)

    def unit(self, image: Float, limits: str) -> Float:
        """Return unit intensities of the main job."""
        return self.units.to_unit(self.stored(image), limits)


@dataclass(frozen=True, eq=False)
class Drawn:
    """All draws of one sketch, and what became of them; units 0 to 1.

    Attributes
    ----------
    name : str
        The sketch.
    labels : ndarray, shape (Y, X)
        What all of them show.
    limits : str
        Photograph whose limits they have.
    images, scenes : ndarray, shape (K, Y, X)
        As synthesised, and what the filter made of each.
    median : ndarray, shape (Y, X)
        Of all draws.
    """

    name: str
    labels: Labels
    limits: str
    images: Float
    scenes: Float
    median: Float

    def made(self, least: float, step: float) -> dict[str, list[Float]]:
        """Return what each method makes of the draws, but for those that choose."""
        free = ndimage.distance_transform_edt(self.labels == 0) > 2
        pairs = list(zip(self.images, self.scenes, strict=True))
        return {
            "none": list(self.images),
            "filter": list(self.scenes),
            "patched": [patched(a, b, least, step) for a, b in pairs],
            "spared": [patched(a, b, least, step, free) for a, b in pairs],
            "median": [self.median],
            "median_spared": [
                patched(a, self.median, least, step, free) for a in self.images
            ],
        }


def read_draws(house: House, draws: ImageSet) -> Iterator[Drawn]:
    """Yield the sketches with their draws and scenes."""
    divisor = np.float32(house.remover.filter.scale.divisor)
    found = filter_draws(house)
    where = {
        method: {name: part for part in parts for name in part.ids}
        for method, parts in found.items()
    }
    for group, table in draws.table.groupby("group"):
        names = [str(name) for name in table["id"]]
        first = draws.row(names[0])
        images, scenes = (
            np.stack([source(name) for name in names])
            for source in (
                lambda n: draws.image(n).astype(np.float32) / divisor,
                lambda n: where["filter"][n].image(n),
            )
        )
        yield Drawn(
            str(group), draws.mask(names[0]), str(first["limits"]), images, scenes,
            where["median"][names[0]].image(names[0]),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores of every image, and the texture of some.

    Attributes
    ----------
    table : DataFrame
        A row per method, sketch and draw: objects, phantoms, vanished (by the check of
        the workflow), lost, light (sum of heights), dice (sum), phantom_light (where
        the draw has phantoms).
    texture : dict of str to (list of ndarray, list of str)
        Network values of images, and their sketches.
    """

    table: pd.DataFrame
    texture: dict[str, tuple[list[Float], list[str]]]


def measure(house: House, draws: ImageSet) -> Measured:
    """Compare each image with its labels, by every method; keep the images."""
    rows: list[dict[str, Any]] = []
    texture: dict[str, tuple[list[Float], list[str]]] = {}
    scale, sketches = Scale.of(house), set(draws.table["group"])
    with Progress("measuring draws", len(sketches), unit="sketches") as progress:
        for one in read_draws(house, draws):
            made = one.made(scale.least, scale.step)
            masks = [
                find_phantoms(scale.unit(i, one.limits), one.labels, scale.area) > 0
                for i in one.images
            ]
            usual = np.median([heights(i, one.labels) for i in one.images], axis=0)
            for method, images in made.items():
                for number, image in enumerate(images):
                    # What is made of all draws is compared with each of them.
                    own = masks if len(images) == 1 else [masks[number]]
                    rows.append(
                        {"method": method, "sketch": one.name, "draw": number}
                        | scored(image, one, scale, usual, own)
                    )
                compared = [
                    unit_to_network(scale.unit(i, one.limits), scale.units.transform)
                    for i in images[:COMPARED]
                ]
                found = texture.setdefault(method, ([], []))
                found[0].extend(compared)
                found[1].extend([one.name] * len(compared))
            progress.advance()
    return Measured(
        with_chosen(pd.DataFrame(rows), house.lab.config.check.max_phantoms), texture
    )


def scored(
    image: Float, of: Drawn, scale: Scale, usual: NDArray[np.float64],
    masks: Sequence[NDArray[np.bool_]],
) -> dict[str, float]:  # fmt: skip
    """Return `SCORES` of one image; `usual` are the heights of its objects."""
    unit = scale.unit(image, of.limits)
    found = check_fidelity(unit, of.labels, scale.radius)
    light = heights(image, of.labels)
    values = (
        len(found.objects), found.phantoms, light_in(image, of.labels, masks),
        found.vanished(1.0).sum(), (light < LOST * usual).sum(), light.sum(),
        found.objects["dice"].sum(),
    )  # fmt: skip
    return dict(zip(SCORES, map(float, values), strict=True))


def summary(house: House, found: Measured) -> pd.DataFrame:
    """Return a row per method: scores, changes with intervals, loss of realism."""
    rows = []
    compared = realism(house, found)
    count = found.table["method"].value_counts()
    for method in (*SINGLE, *SEVERAL):
        total = sums(found.table, method, SCORES).sum()
        row: dict[str, Any] = {
            "method": method, "images": int(count[method]),
            "sketches": found.table["sketch"].nunique(),
            **{
                f"{name}_per_object": total[name] / max(total["objects"], 1)
                for name in total.index if name != "objects"
            },
        }  # fmt: skip
        for score in ("phantoms", "phantom_light", "vanished", "light", "dice"):
            ratio = changed(found.table, method, score, house.sizes.resamples)
            row |= {
                f"{score}_ratio": ratio.value, f"{score}_low": ratio.low,
                f"{score}_high": ratio.high,
            }  # fmt: skip
        rows.append(row | compared.get(method, {}))
    return pd.DataFrame(rows)


def realism(house: House, found: Measured) -> dict[str, dict[str, float]]:
    """Return what each method loses against the draws as they are, beside real images.

    See `quality_losses`: spectrum, intensities and texture.
    """
    limits = house.value_range
    outcomes = {
        method: Outcome({}, {}, sample(images, names, limits))
        for method, (images, names) in found.texture.items()
    }
    compare = Comparison(
        real_sample(house.lab, limits), outcomes["none"],
        resamples=house.sizes.resamples,
    )  # fmt: skip
    return {name: compare.losses(outcome) for name, outcome in outcomes.items()}


def write_sets(house: House, draws: ImageSet, methods: Sequence[str]) -> None:
    """Write draws and what became of them as training sets for a segmenter."""
    scale = Scale.of(house)
    wanted = [m for m in methods if not (house.folder / f"sets/{m}").exists()]
    drawn = list(read_draws(house, draws)) if wanted else []
    for method in wanted:
        with ImageSetWriter(
            house.folder / f"sets/{method}", {"of": method}, resume=False
        ) as writer:
            for one in drawn:
                images = one.made(scale.least, scale.step)[method]
                for number, image in enumerate(images[:COMPARED]):
                    writer.add(
                        f"{one.name}-{number}", scale.stored(image), one.labels,
                        split="train",
                    )  # fmt: skip
