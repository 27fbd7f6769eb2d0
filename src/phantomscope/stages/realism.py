"""Stage that compares synthetic with real images, and looks for copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.analysis import Audit as Options
from phantomscope.config.model import Config
from phantomscope.images.files import write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.audit import Audit, audit
from phantomscope.measure.distribution import (
    bhattacharyya_distance,
    shared_histograms,
    wasserstein,
)
from phantomscope.measure.memorisation import NearestPatch, nearest_patch
from phantomscope.measure.spectral import radial_power_spectrum, spectral_distance
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import unannotated

Float = NDArray[np.float32]
# So many images of a set tell its intensities and its texture.
MOST = 60


def _units(images: ImageSet, scale: Normalisation, most: int = MOST) -> list[Float]:
    """Read some images in unit intensities, spread over the set; of volumes planes."""
    return [unit for unit, _ in _grouped_units(images, scale, most)]


def _grouped_units(
    images: ImageSet, scale: Normalisation, most: int = MOST
) -> list[tuple[Float, str]]:
    """Do as `_units`, and name the group of each image."""
    ids = images.ids[:: -(-len(images) // most)]
    units = []
    for identifier in ids:
        group = str(images.row(identifier)["group"])
        limits = str(images.row(identifier).get("limits", identifier))
        if len(images.shape(identifier)) == 2:
            units.append((scale.to_unit(images.image(identifier), limits), group))
            continue
        depth, count = images.shape(identifier)[0], -(-most // len(ids))
        with images.planes(identifier) as planes:
            units += [
                (scale.to_unit(planes.read(z, z + 1)[0], limits), group)
                for z in range(depth)[:: -(-depth // count)]
            ]
    return units


def _mean_spectrum(images: Sequence[Float], grid: NDArray[Any]) -> list[float]:
    powers = []
    for image in images:
        frequency, power = radial_power_spectrum(image)
        powers.append(np.interp(grid, frequency, power))
    return [float(v) for v in np.mean(powers, axis=0)]


def measure_realism(
    config: Config, *, prepared: Path, normalisation: Path, checked: Path,
    camera_images: Path, realism: Output, memorisation: Output, pairs: Output,
) -> None:  # fmt: skip
    """Compare synthetic with real training images, and look for copies of them."""
    scale, options = Normalisation.load(normalisation), config.audit
    real_set, most = unannotated(prepared), max(MOST, options.samples)
    sets = {
        "real": _units(real_set, scale),
        "synthetic": _units(ImageSet.open(checked, most=most), scale, most),
        "camera": _units(ImageSet.open(camera_images, most=MOST), scale),
    }
    pixels = {k: np.concatenate([i.ravel() for i in v]) for k, v in sets.items()}
    low, high = np.percentile(pixels["real"], [0.01, 99.95])
    edges = np.linspace(low, high, 129)
    grid = np.linspace(0.02, 0.5, 60)
    content: dict[str, Any] = {
        "intensity": {"edges": edges.tolist()},
        "spectrum": {"frequency": grid.tolist()},
        "distances": {},
    }
    for name, images in sets.items():
        counts = np.histogram(np.clip(pixels[name], low, high), edges)[0]
        content["intensity"][name] = (counts / counts.sum()).tolist()
        content["spectrum"][name] = _mean_spectrum(images, grid)
        if name != "real":
            p, q = shared_histograms(pixels["real"], pixels[name], bins=256)
            content["distances"][name] = {
                "intensity_bhattacharyya": bhattacharyya_distance(p, q),
                "intensity_wasserstein": wasserstein(pixels["real"], pixels[name]),
                "spectral": spectral_distance(sets["real"], images),
            }
    write_json(realism, content)
    held_out = ImageSet.open(prepared).select(split="test").without_masks()
    training = sets["real"]
    if options.training is None:
        training = _units(real_set, scale, len(real_set))
    look_for_copies(
        training, sets["synthetic"], _grouped_units(held_out, scale), options,
        config.seed, memorisation, pairs,
    )  # fmt: skip


def _patches(images: Sequence[Float], step: int, side: int) -> Float:
    """All square patches on a grid."""
    found = [
        image[y : y + side, x : x + side]
        for image in images
        for y in range(0, image.shape[0] - side + 1, step)
        for x in range(0, image.shape[1] - side + 1, step)
    ]
    return np.stack(found) if found else np.empty((0, side, side), np.float32)


def _pick(patches: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[Any]:
    if len(patches) <= count:
        return patches
    return patches[np.sort(rng.choice(len(patches), count, replace=False))]


def look_for_copies(
    real: Sequence[Float], synthetic: Sequence[Float],
    held_out: Sequence[tuple[Float, str]], options: Options, seed: int, table: Path,
    pairs: Path,
) -> None:  # fmt: skip
    """Find the nearest training patch of synthetic and of held-out real patches.

    If the generator copied, synthetic patches would be nearer to the training patches
    than real ones that it never saw.

    Parameters
    ----------
    real, synthetic : sequence of ndarray, shape (Y, X)
        Training images and synthetic ones, in unit intensities.
    held_out : sequence of (ndarray, str)
        Real images that the generator never saw, each with its group.
    options : Options
        Section ``audit`` of the config.
    seed : int
        Of the drawing of patches and of the intervals.
    table : Path
        CSV: a row per patch.
    pairs : Path
        Image set of the nearest pairs.
    """
    rng = generator(seed, "memorisation")
    # Parts of small volumes are narrower than a patch of images.
    images = (*real, *synthetic, *(image for image, _ in held_out))
    side = min([options.patch, *(min(image.shape) for image in images)])
    step = max(1, round(options.patch * (1 - options.overlap)))
    training = _patches(real, step, side)
    if options.training is not None:
        training = _pick(training, options.training, rng)
    samples = _pick(_patches(synthetic, side, side), options.samples, rng)
    others = _patches([image for image, _ in held_out], side, side)
    kept = _pick(np.arange(len(others)), options.held_out, rng)
    groups = [name for i, name in held_out for _ in _patches([i], side, side)]
    of_kept = [groups[n] for n in kept]
    parts = {"synthetic": samples, "held_out": others[kept]}
    found = None
    if len(samples) and _textured(training) >= 4 and _textured(others[kept]) >= 3:
        found = audit(
            samples, training, others[kept], held_out_groups=of_kept,
            resamples=options.resamples, seed=seed,
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    with ImageSetWriter(pairs, {"stage": "measure_realism"}) as writer:
        for kind, patches in parts.items():
            if not len(patches) or not len(training):
                continue
            near = nearest_patch(patches, training) if found is None else (
                found.samples if kind == "synthetic" else found.held_out)  # fmt: skip
            at_zero = nearest_patch(patches, training, all_shifts=False)
            own = _nearest_rows(kind, near, at_zero, found)
            if kind == "synthetic":
                _write_pairs(writer, patches, training, near, own,
                             options.pairs)  # fmt: skip
            else:
                own = [row | {"group": g} for row, g in zip(own, of_kept, strict=True)]
            rows += own
    columns = ["id", "kind", "score", "score_zero_lag", "patch", "patch_y", "patch_x",
               "symmetry", "flagged", "gap", "gap_low", "gap_high", "group", "side",
               "training_patches", "nearer", "nearer_low", "nearer_high"]  # fmt: skip
    counts = {"side": side, "training_patches": len(training)}
    rows = [row | counts for row in rows]
    write_text(table, pd.DataFrame(rows, columns=columns).to_csv(index=False))


def _write_pairs(
    writer: ImageSetWriter, samples: Float, training: Float, near: NearestPatch,
    rows: Sequence[dict[str, Any]], most: int,
) -> None:  # fmt: skip
    """Write the most similar pairs, the training patch laid onto the sample."""
    for number, n in enumerate(np.argsort(-near.score, kind="stable")[:most]):
        patch = np.ascontiguousarray(near.aligned(n, training[near.index[n]]))
        known = {name: rows[n].get(name, "") for name in ("id", "flagged")}
        for kind, image in (("sample", samples[n]), ("patch", patch)):
            name = f"pair-{number:02d}-{kind}"
            writer.add(name, image, score=float(near.score[n]), sample=known["id"],
                       flagged=known["flagged"])  # fmt: skip


def _textured(patches: Float) -> int:
    """Count the patches that are not constant."""
    return int(np.count_nonzero(np.ptp(patches, axis=(1, 2)))) if len(patches) else 0


def _nearest_rows(
    kind: str, near: NearestPatch, at_zero: NearestPatch, found: Audit | None
) -> list[dict[str, Any]]:
    """Return a row per patch; synthetic ones hold what the audit says of them."""
    rows: list[dict[str, Any]] = []
    for n, score in enumerate(near.score):
        row: dict[str, Any] = {
            "id": f"{kind}-{n:03d}",
            "kind": kind,
            "score": float(score),
            "score_zero_lag": float(at_zero.score[n]),
            "patch": int(near.index[n]),
            "patch_y": int(near.shift[n][0]),
            "patch_x": int(near.shift[n][1]),
            "symmetry": int(near.symmetry[n]),
        }
        if found is not None and kind == "synthetic":
            gap, nearer = found.gap_to_held_out, found.gap
            row |= {"flagged": bool(found.alarm.flagged[n]), "gap": gap.value,
                    "gap_low": gap.low, "gap_high": gap.high, "nearer": nearer.value,
                    "nearer_low": nearer.low, "nearer_high": nearer.high}  # fmt: skip
        rows.append(row)
    return rows
