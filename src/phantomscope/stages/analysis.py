"""Stages after synthesis: segmentation tools, measurement, tables and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from phantomscope.config.arms import parse_arm
from phantomscope.config.model import Config
from phantomscope.downstream import generalist
from phantomscope.downstream.examples import (
    Example,
    annotated_share,
    whole_images,
)
from phantomscope.downstream.jobs import TRAINERS, choose
from phantomscope.downstream.run import predict_tool, train_tool
from phantomscope.errors import PhantomscopeError
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
from phantomscope.measure.instance import object_records, score_image
from phantomscope.measure.memorisation import NearestPatch, nearest_patch
from phantomscope.measure.spectral import radial_power_spectrum, spectral_distance
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.data import unannotated

Float = NDArray[np.float32]
PATCH = 64
# So many images of a set tell its intensities and its texture.
MOST = 60


def train_segmenter(
    config: Config, *, training: Path, folder: Output, tool: str, arm: str,
    seed: int = 0, annotated: Path | None = None, state: Place | None = None,
) -> None:  # fmt: skip
    """Train one tool on one arm, such as synthetic, annotated, sketch or mixed-5."""
    # A tool that does not exist is told before images are read for it.
    choose(TRAINERS, tool, "trained")
    parts = parse_arm(arm)
    folders = [training] if annotated is None else [training, annotated]
    if len(folders) != len(parts.sets):
        raise PhantomscopeError(
            f"the arm `{arm}` is made of the image sets {' and '.join(parts.sets)}, "
            f"{len(folders)} are given",
            where="--training, --annotated",
            fix="give the annotated set as `--annotated` with `mixed` arms, and only "
            "with them",
        )
    examples: list[Example] = []
    for kind, path in zip(parts.sets, folders, strict=True):
        if kind == "annotated":
            # It is tuned by its scores, which take single planes as well as volumes.
            sparse = tool == "otsu_watershed" and parts.percent >= 100
            examples += _annotated(path, parts.percent, seed, sparse)
        else:
            images = ImageSet.open(path, most=config.segment.images)
            examples += whole_images(images, kind)
    if not examples:
        raise PhantomscopeError(
            "none of the training images has a labelled object",
            where=folders[0] / "manifest.csv",
            fix="give `source.labels`, or train on a set that has labels",
        )
    train_tool(tool, examples, config.segment, folder=folder, seed=seed, state=state)


def _annotated(
    prepared: Path, percent: float, seed: int, sparse: bool
) -> list[Example]:
    """Return the annotated training part, or a share of it."""
    images = ImageSet.open(prepared).select(split="train")
    if not any(images.has_mask(i) for i in images.ids):
        raise PhantomscopeError(
            "the training part has no labels",
            where="segment.arms",
            fix="give `source.labels`, or leave out the arms that need annotation",
        )
    return annotated_share(images, percent, seed, sparse=sparse)


def predict(
    config: Config, *, prepared: Path, predictions: Output, tool: str,
    folder: Path | None = None,
) -> None:  # fmt: skip
    """Segment the real test part with a trained tool."""
    images = ImageSet.open(prepared).select(split="test")
    if tool == "generalist" and generalist.find_weights() is None:
        # No tool, no prediction: the table has a row that says so.
        with ImageSetWriter(predictions, {"absent": "weights not present"}):
            return
    predict_tool(tool, folder, images, config.segment, predictions)


def evaluate(
    config: Config, *, prepared: Path, predictions: Path, scores: Output
) -> None:
    """Compare predictions with the annotation of the real test part."""
    truth = ImageSet.open(prepared).select(split="test")
    found = ImageSet.open(predictions)
    scores.mkdir(parents=True, exist_ok=True)
    if reason := found.info.get("absent"):
        write_text(scores / "absent.txt", f"{reason}\n")
        return
    thresholds = config.evaluate.thresholds
    rows, objects = [], []
    for identifier in truth.ids:
        if truth.has_mask(identifier):
            row = truth.row(identifier)
            labels, mask = truth.mask(identifier), found.mask(identifier)
            if (planes := truth.annotated_planes(identifier)) is not None:
                # Nobody knows what is in the others.
                _check_planes(planes, labels.shape, prepared)
                labels, mask = labels[planes], mask[planes]
            scored: dict[str, Any] = dict(score_image(labels, mask, thresholds))
            rows.append({"id": identifier, "group": row["group"], **scored})
            objects.append(object_records(labels, mask, 0.5).assign(id=identifier))
    if not rows:
        raise PhantomscopeError(
            "no image of the test part has labels",
            where=prepared,
            fix="give labels for more images, or leave `source.labels` empty",
        )
    write_text(scores / "images.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(scores / "objects.csv", pd.concat(objects).to_csv(index=False))


def _check_planes(planes: list[int], shape: tuple[int, ...], prepared: Path) -> None:
    """Refuse planes that an image does not have."""
    if len(shape) == 2 or not all(0 <= plane < shape[0] for plane in planes):
        raise PhantomscopeError(
            f"`annotated_planes` names {planes} of an image of the shape {shape}",
            where=prepared / "manifest.csv",
            fix="delete its folder and run the same command again",
        )


def _units(images: ImageSet, scale: Normalisation, most: int = MOST) -> list[Float]:
    """Read some images in unit intensities, spread over the set; of volumes planes."""
    ids = images.ids[:: -(-len(images) // most)]
    units = []
    for identifier in ids:
        limits = str(images.row(identifier).get("limits", identifier))
        if len(images.shape(identifier)) == 2:
            units.append(scale.to_unit(images.image(identifier), limits))
            continue
        depth, count = images.shape(identifier)[0], -(-most // len(ids))
        with images.planes(identifier) as planes:
            units += [
                scale.to_unit(planes.read(z, z + 1)[0], limits)
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
    scale = Normalisation.load(normalisation)
    real_set = unannotated(prepared)
    sets = {
        "real": _units(real_set, scale),
        "synthetic": _units(ImageSet.open(checked, most=MOST), scale),
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
    _memorisation(
        sets["real"], sets["synthetic"], _units(held_out, scale), config.seed,
        memorisation, pairs,
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


def _memorisation(
    real: Sequence[Float], synthetic: Sequence[Float], held_out: Sequence[Float],
    seed: int, table: Path, pairs: Path,
) -> None:  # fmt: skip
    """Find the nearest training patch of synthetic and of held-out real patches.

    If the generator copied, synthetic patches would be nearer to the training patches
    than real ones that it never saw.
    """
    rng = generator(seed, "memorisation")
    # Parts of small volumes are narrower than a patch of images.
    sides = [min(image.shape) for image in (*real, *synthetic, *held_out)]
    side = min([PATCH, *sides])
    training = _pick(_patches(real, 24, side), 600, rng)
    samples = _pick(_patches(synthetic, side, side), 40, rng)
    others = _patches(held_out, side, side)
    kept = _pick(np.arange(len(others)), 40, rng)
    groups = [str(n) for n, i in enumerate(held_out) for _ in _patches([i], side, side)]
    parts = {"synthetic": samples, "held_out": others[kept]}
    found = None
    if len(samples) and _textured(training) >= 4 and _textured(others[kept]) >= 3:
        of_kept = [groups[n] for n in kept]
        found = audit(samples, training, others[kept], held_out_groups=of_kept)
    rows: list[dict[str, Any]] = []
    with ImageSetWriter(pairs, {"stage": "measure_realism"}) as writer:
        for kind, images in parts.items():
            if not len(images) or not len(training):
                continue
            near = nearest_patch(images, training) if found is None else (
                found.samples if kind == "synthetic" else found.held_out)  # fmt: skip
            at_zero = nearest_patch(images, training, all_shifts=False)
            rows += _nearest_rows(kind, near, at_zero, found)
            if kind == "synthetic":
                _write_pairs(writer, images, training, near)
    columns = ["id", "kind", "score", "score_zero_lag", "patch", "patch_y", "patch_x",
               "symmetry", "flagged", "gap", "gap_low", "gap_high"]  # fmt: skip
    write_text(table, pd.DataFrame(rows, columns=columns).to_csv(index=False))


def _write_pairs(
    writer: ImageSetWriter, samples: Float, training: Float, near: NearestPatch
) -> None:
    """Write the most similar pairs, the training patch laid onto the sample."""
    for number, n in enumerate(np.argsort(-near.score, kind="stable")[:6]):
        patch = np.ascontiguousarray(near.aligned(n, training[near.index[n]]))
        for kind, image in (("sample", samples[n]), ("patch", patch)):
            name = f"pair-{number:02d}-{kind}"
            writer.add(name, image, score=float(near.score[n]))


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
            gap = found.gap_to_held_out
            row |= {"flagged": bool(found.alarm.flagged[n]), "gap": gap.value,
                    "gap_low": gap.low, "gap_high": gap.high}  # fmt: skip
        rows.append(row)
    return rows


def write_config(config: Config, *, resolved: Output) -> None:
    """Write the whole config, with all defaults filled in."""
    content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(resolved, content)


def _check_root(root: Path) -> None:
    """Refuse a folder without `config.yaml`: each experiment writes one there.

    What is absent below is left out, so a wrong folder would give empty tables.
    """
    fix = "give as `--root` the folder of a run, such as results/demo"
    if not root.is_dir():
        raise PhantomscopeError(
            "the folder of the experiment does not exist", where=root, fix=fix
        )
    if not (root / "config.yaml").is_file():
        raise PhantomscopeError(
            "this is no folder of an experiment: it has no config.yaml",
            where=root / "config.yaml",
            fix=f"{fix}; if its stages ran by hand, write the file: `write-config`",
        )


def tabulate(
    config: Config, *, root: Place, csv: Output, md: Output, per_image: Output
) -> None:
    """Put all scores into one table of results."""
    from phantomscope.tables.results import (
        per_image_table,
        segmentation_rows,
        write_tables,
    )

    _check_root(root)
    write_tables(
        segmentation_rows(root, config), csv, md, confidence=config.evaluate.confidence
    )
    write_text(per_image, per_image_table(root).to_csv(index=False))


def draw_figures(config: Config, *, root: Place, figures: list[Output]) -> None:
    """Draw the figures; each file is named after its figure."""
    from phantomscope.tables.figures import FIGURES

    _check_root(root)
    for path in figures:
        path.parent.mkdir(parents=True, exist_ok=True)
        FIGURES[path.stem][0](root, config, path)


def report(config: Config, *, root: Place, html: Output) -> None:
    """Write the report: one HTML file with all pictures and tables."""
    from phantomscope.tables.report import write_report

    _check_root(root)
    write_report(root, config, html)
