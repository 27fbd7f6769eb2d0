"""Studies of translation: fewer steps, and artefacts planted in brightfield."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.translation import RESIDUAL
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.pairs import Pairs, from_stored, to_stored
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.artefacts import auc, candidate_spots, contrast, reappearance
from phantomscope.measure.translation import pixel_rows
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.simulate.artefacts import (
    Artefact,
    artefact_labels,
    distances,
    draw_artefacts,
    planted,
    transmission,
)
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.plates import KEPT, as_light, as_network
from phantomscope.stages.translated import UNITS, blocks
from phantomscope.stages.translation import (
    Float,
    mean_of,
    open_codec,
    open_pairs,
    predictions,
    sampler_of,
)
from phantomscope.tables.artefacts import pick

# Predicts an image, shape (C, Y, X), once or several times from what the network sees.
Predict = Callable[[Float], list[Float]]


def chosen_images(config: Config, identifiers: Sequence[str]) -> list[str]:
    """Return the images of the studies: evenly spread, or all."""
    most = config.translate.study.images
    return pick(list(identifiers), len(identifiers) if most is None else most)


def study_steps(
    config: Config, *, pairs: Path, model: Path, quality: Output, seconds: Output,
    seed: int = 0,
) -> None:  # fmt: skip
    """Measure residual diffusion with fewer steps, and how long each number takes.

    As many predictions are averaged as elsewhere: `translate.averaged`.
    """
    check_targets(quality, seconds)
    own = config.of_method(RESIDUAL)
    found, options = open_pairs(own, pairs, "test"), own.translate
    trained = DiffusionModel.load(model)
    names = chosen_images(own, found.images.ids)
    seen = sum(math.prod(found.images.shape(name)) for name in names)
    counts, averaged = sorted(options.study.steps), options.averaged_of(RESIDUAL)
    work = seen * sum(counts) * averaged
    sampler = Sampler(trained, own.synthesise, own.seed + seed, work)
    rows: list[dict[str, Any]] = []
    took: list[dict[str, Any]] = []
    # Before the clock starts: what is compiled and loaded at first is not counted.
    next(predictions(sampler.with_steps(1), found.condition(names[0]), names[0], 1))
    with Progress("few steps", len(names) * len(counts), unit="images") as progress:
        for name in names:
            condition, truth = found.condition(name), found.truth(name)
            about = {c: found.images.row(name).get(c, "") for c in UNITS}
            for steps in counts:
                begin = time.monotonic()
                few = sampler.with_steps(steps)
                one = mean_of(list(predictions(few, condition, name, averaged)))
                took.append({"id": name, "steps": steps,
                             "seconds": time.monotonic() - begin})  # fmt: skip
                # As it is stored elsewhere: the last count gives the same numbers.
                one = from_stored(to_stored(one))
                for place, window in blocks(truth.shape[1:], options.blocks):
                    which = {"id": name + place, **about, "steps": steps}
                    if place:
                        which["group"] = name + place
                    rows += [
                        which | row
                        for row in pixel_rows(
                            truth[:, *window], one[:, *window], options.channels
                        )
                    ]
                progress.advance()
    write_text(quality, pd.DataFrame(rows).to_csv(index=False))
    write_text(seconds, pd.DataFrame(took).to_csv(index=False))


def _pixel(images: ImageSet, name: str) -> tuple[float, float]:
    """Return the size of a pixel along y and x, um."""
    size = images.voxel_size(name)
    if size is None:
        raise PhantomscopeError(
            f"the size of a pixel of {name!r} is unknown, but artefacts have sizes in "
            "um",
            where=images.folder / "manifest.csv",
            fix="say it",
            example="translate:\n  plates: {pixel_size_um: 0.598}",
        )
    return size[0], size[1]


def plant_artefacts(
    config: Config, *, pairs: Path, planted_images: Output, places: Output,
    candidates: Output,
) -> None:  # fmt: skip
    """Plant dust and debris in brightfield images of the test part."""
    check_targets(places, candidates)
    options, study = config.translate, config.translate.study
    whole = ImageSet.open(pairs).select(split="test")
    names = chosen_images(config, whole.ids)
    info = {
        "stage": "plant_artefacts", "study": study.model_dump(mode="json"),
        "seed": config.seed, "images": fingerprint(list(whole.table["sha256"])),
    }  # fmt: skip
    drawn: list[dict[str, Any]] = []
    spots: list[dict[str, Any]] = []
    with (
        ImageSetWriter(planted_images, info) as writer,
        Progress("planting artefacts", len(names), unit="images") as progress,
    ):
        for name in names:
            # Limits of the clean image: what is planted changes its own place only.
            limits = json.loads(whole.row(name)["limits"])[: len(options.plates.inputs)]
            image = as_light(from_stored(whole.channels(name)[: len(limits)]), limits)
            shape, pixel = image.shape[1:], _pixel(whole, name)
            extent = (shape[0] * pixel[0], shape[1] * pixel[1])
            artefacts = draw_artefacts(extent, study, config.seed, name)
            dirty = planted(image, transmission(artefacts, shape, pixel))
            real, seen = (
                candidate_spots(one[0], pixel, study.sizes_um, study.found_darker)
                for one in (image, dirty)
            )
            known = artefact_labels(artefacts, shape, pixel)
            drawn += [
                {"id": name, "number": n, **asdict(one),
                 "found": bool(seen[known == n].any())}
                for n, one in enumerate(artefacts, 1)
            ]  # fmt: skip
            row = whole.row(name)
            spots.append({"id": name, "group": row["group"], "spots": int(real.max())})
            if name not in writer:
                stored = to_stored(as_network(dirty, limits))
                writer.add(
                    name, stored if len(stored) > 1 else stored[0], known,
                    channels=len(stored), cells=real.astype(np.uint16),
                    pixel_size=pixel, **{c: row[c] for c in KEPT if c in row},
                )  # fmt: skip
            progress.advance()
    write_text(places, pd.DataFrame(drawn).to_csv(index=False))
    write_text(candidates, pd.DataFrame(spots).to_csv(index=False))


def study_artefacts(
    config: Config, *, pairs: Path, model: Path, planted_images: Path, places: Path,
    study: Output, method: str, seed: int = 0, codec: Path | None = None,
) -> None:  # fmt: skip
    """Translate images with and without artefacts, and compare the two."""
    own = config.of_method(method)
    found, options = open_pairs(own, pairs, "test"), own.translate
    trained, dirty = DiffusionModel.load(model), ImageSet.open(planted_images)
    known = pd.read_csv(places, dtype={"id": str, "kind": str})
    seen = sum(math.prod(dirty.shape(name)) for name in dirty.ids)
    sampler = sampler_of(trained, open_codec(codec, method), own, seed, 2 * seen)
    info = {"stage": "study_artefacts", "method": method, "seed": seed,
            "model": trained.meta["fingerprint"]}  # fmt: skip
    rows: list[dict[str, Any]] = []
    with (
        ImageSetWriter(study / "picture", info, resume=False) as writer,
        Progress("translating artefacts", len(dirty), unit="images") as progress,
    ):
        for name in dirty.ids:

            def predict(values: Float, name: str = name) -> list[Float]:
                given = values[list(found.anchors)] if found.anchors else values
                return list(predictions(sampler, given, name, options.study.samples))

            clean = from_stored(found.images.channels(name)[: found.inputs])
            changed = from_stored(dirty.channels(name))
            both = [np.stack(predict(values)) for values in (clean, changed)]
            artefacts = artefacts_of(known, name)
            about = {c: found.images.row(name).get(c, "") for c in UNITS}
            for row in artefact_rows(
                artefacts, dirty.mask(name), _pixel(dirty, name),
                (clean, changed), (both[0], both[1]), options.channels,
            ):  # fmt: skip
                place = _block_of(row["number"], dirty.mask(name), options.blocks)
                which = {"id": name, **about}
                if place:
                    which["group"] = name + place
                rows.append(which | row)
            if name == dirty.ids[0]:
                _add_picture(found, dirty, name, (clean, changed), both, writer)
            progress.advance()
    write_text(study / "artefacts.csv", pd.DataFrame(rows).to_csv(index=False))


def artefacts_of(places: pd.DataFrame, name: str) -> list[Artefact]:
    """Return the artefacts of an image, in the order of their numbers."""
    own = places[places["id"] == name].sort_values("number")
    names = list(Artefact.__dataclass_fields__)
    return [Artefact(**row) for row in own[names].to_dict("records")]


def _block_of(number: int, labels: NDArray[Any], side: int | None) -> str:
    """Name the block that most of an artefact lies in."""
    shares = {
        place: int((labels[window] == number).sum())
        for place, window in blocks(labels.shape, side)
    }
    return max(shares, key=lambda place: shares[place])


def artefact_rows(
    artefacts: Sequence[Artefact], labels: NDArray[Any], pixel: tuple[float, float],
    given: tuple[Float, Float], made: tuple[Float, Float], channels: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Compare predictions with and without artefacts, at each of them.

    Parameters
    ----------
    artefacts : sequence of Artefact
        What was planted.
    labels : ndarray, shape (Y, X)
        Where: 1 + the place in `artefacts`.
    pixel : tuple of float
        Size of a pixel along y and x, um.
    given : tuple of ndarray, shape (C', Y, X)
        Brightfield without and with artefacts, network values.
    made : tuple of ndarray, shape (N, C, Y, X)
        N predictions from each, with the same noise.
    channels : sequence of str
        What is predicted.

    Returns
    -------
    list of dict
        Of each artefact and channel: ``inside``, ``around`` and ``signed``, see
        `reappearance` (around: a ring as wide as its radius, beyond where it or any
        other reaches); ``contrast``, the first by the second; ``given``, what changed
        of the brightfield inside, and ``share``, ``inside`` by that; ``auc``, whether
        the spread of the predictions is larger inside than far from all artefacts, and
        ``auc_clean``, the same at this place without the artefact (NaN of one
        prediction).
    """
    shape = labels.shape
    far = [distances(one, shape, pixel) for one in artefacts]
    free = np.all(
        [d > one.reach for d, one in zip(far, artefacts, strict=True)], axis=0
    )
    spreads = [
        m.std(axis=0, ddof=1) if len(m) > 1 else np.full(m.shape[1:], np.nan)
        for m in made
    ]
    rows = []
    for number, (one, distance) in enumerate(zip(artefacts, far, strict=True), 1):
        inside = labels == number
        width = max(one.radius, 2 * max(pixel))
        around = free & (distance <= one.reach + width)
        source = reappearance(given[0][:1], given[1][:1], inside, around)["inside"]
        for c, channel in enumerate(channels):
            row = reappearance(made[0][:, c], made[1][:, c], inside, around)
            before, after = (
                auc(s[c][inside], s[c][free]) if len(made[0]) > 1 else math.nan
                for s in spreads
            )
            rows.append({
                "number": number, "kind": one.kind, "diameter": one.diameter,
                "absorption": one.absorption, "pixels": int(inside.sum()),
                "channel": channel, **row,
                "contrast": contrast(row["inside"], row["around"]), "given": source,
                "share": row["inside"] / source if source else math.nan,
                "auc": after, "auc_clean": before,
            })  # fmt: skip
    return rows


def _add_picture(
    found: Pairs, dirty: ImageSet, name: str, given: tuple[Float, Float],
    made: Sequence[Float], writer: ImageSetWriter,
) -> None:  # fmt: skip
    """Write what the figure shows: first input, predictions, their spread if any."""
    for which, values, several in zip(("clean", "planted"), given, made, strict=True):
        parts = [to_stored(values[:1]), to_stored(several[0])]
        if len(several) > 1:
            # As `translate` stores it.
            parts.append(to_stored(2 * several.std(axis=0, ddof=1) - 1))
        image = np.concatenate(parts)
        writer.add(
            f"{name}-{which}", image,
            dirty.mask(name) if which == "planted" else dirty.cells(name),
            channels=len(image), pixel_size=found.images.voxel_size(name),
            predictions=len(several),
        )  # fmt: skip


def tabulate_studies(config: Config, *, root: Place, csv: Output, md: Output) -> None:
    """Put steps, uncertainty and artefacts into one table."""
    from phantomscope.tables.studies import study_rows, write_studies

    write_studies(study_rows(root, config), csv, md, config)
