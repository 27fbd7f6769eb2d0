"""The stages that look at every synthetic image, and that join the shards."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.analysis import Check
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import (
    check_replaceable,
    pixel_hash,
    read_json,
    replace_folder,
    write_json,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import COLUMNS, ImageSet
from phantomscope.images.join import join_sets, join_tables, relative_to
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import write_manifest
from phantomscope.locks import only_writer
from phantomscope.measure.fidelity import Fidelity, check_fidelity
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import kind_of

# Of a million images, so many objects show the distribution as well as all of them.
MOST_OBJECTS = 200_000
SCORES = ("objects", "vanished", "phantoms", "agreement", "contrast")


def _reasons(fidelity: Fidelity, options: Check) -> list[str]:
    count = max(len(fidelity.objects), 1)
    vanished = fidelity.vanished(options.min_contrast).sum() / count
    found = []
    if vanished > options.max_vanished:
        found.append("vanished objects")
    if fidelity.phantoms / count > options.max_phantoms:
        found.append("phantom objects")
    if fidelity.agreement < options.min_agreement:
        found.append("disagreement")
    return found


def _erased(
    row: dict[str, Any], part: ImageSet, gone: NDArray[Any], partial: Path
) -> dict[str, Any]:
    """Manifest row of a kept image; labels of vanished objects are erased."""
    if not len(gone):
        return row
    labels = part.mask(row["id"])
    labels = np.where(np.isin(labels, gone), 0, labels).astype(labels.dtype)
    path = f"labels/{row['id']}.ome.tif"
    write_ome_tiff(partial / path, labels, axes=row["axes"])
    return {**row, "mask": path, "mask_sha256": pixel_hash(labels)}


def fidelity_of(unit: NDArray[Any], labels: NDArray[Any], kind: SketchType) -> Fidelity:
    """Compare a synthetic image with its labels, as its type of sketch says."""
    return check_fidelity(
        unit, labels, kind.radius[3], spacing=kind.spacing,
        membranes=kind.tissue is not None,
    )  # fmt: skip


@dataclass
class _Verdicts:
    """What was found so far."""

    partial: Path
    final: Path
    kept: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    objects: list[pd.DataFrame] = field(default_factory=list)
    erased: int = 0

    def add(
        self, part: ImageSet, identifier: str, fidelity: Fidelity, options: Check
    ) -> None:
        """Keep or reject one image, and note its scores."""
        gone = fidelity.vanished(options.min_contrast)
        row = relative_to(self.final)(
            part.row(identifier), part.folder / "manifest.csv"
        ) | {
            "objects": len(fidelity.objects),
            "vanished": int(gone.sum()),
            "phantoms": fidelity.phantoms,
            "agreement": round(fidelity.agreement, 4),
            "contrast": round(float(fidelity.objects["contrast"].median()), 3),
        }
        self.objects.append(fidelity.objects.assign(id=identifier))
        if reasons := _reasons(fidelity, options):
            self.rejected.append({**row, "reason": "; ".join(reasons)})
            return
        numbers = np.asarray(fidelity.objects["label"])[gone]
        numbers = numbers if options.erase_vanished else numbers[:0]
        self.erased += len(numbers)
        self.kept.append(_erased(row, part, numbers, self.partial))

    def write(self, columns: list[str], seed: int) -> None:
        """Write manifest, rejected images, objects and summary."""
        reasons: Counter[str] = Counter()
        for row in self.rejected:
            reasons.update(row["reason"].split("; "))
        table = pd.concat(self.objects, ignore_index=True)
        # An empty manifest still has all columns: the shards are joined later.
        write_manifest(
            self.partial, self.kept, {"stage": "check", "seed": seed}, columns
        )
        dropped = pd.DataFrame(self.rejected, columns=[*columns, "reason"])
        write_text(self.partial / "rejected.csv", dropped.to_csv(index=False))
        write_text(self.partial / "objects.csv", table.to_csv(index=False))
        summary = {
            "images": len(self.kept) + len(self.rejected),
            "kept": len(self.kept),
            "rejected": len(self.rejected),
            "objects": len(table),
            "erased_labels": self.erased,
            "reasons": dict(reasons),
        }
        write_json(self.partial / "summary.json", summary)


def check(
    config: Config, *, normalisation: Path, sketch: Path, synthetic: Path,
    checks: Output,
) -> None:  # fmt: skip
    """Score every synthetic image and object of a shard, and drop the bad ones."""
    scale = Normalisation.load(normalisation)
    parameters = SketchParameters.load(sketch)
    part = ImageSet.open(synthetic).having("type", "limits")
    check_replaceable(checks)
    partial = checks.with_name(f".{checks.name}.partial")
    with only_writer(checks):
        shutil.rmtree(partial, ignore_errors=True)
        verdicts = _Verdicts(partial, checks)
        with Progress("checking", len(part), unit="images") as progress:
            for identifier in part.ids:
                row = part.row(identifier)
                unit = scale.to_unit(part.image(identifier), row["limits"])
                kind = kind_of(parameters, row["type"], sketch)
                fidelity = fidelity_of(unit, part.mask(identifier), kind)
                verdicts.add(part, identifier, fidelity, config.check)
                progress.advance()
        extra = [name for name in part.table.columns if name not in COLUMNS]
        verdicts.write([*COLUMNS, *extra, *SCORES], config.seed)
        replace_folder(partial, checks)


def _add_up(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the summaries of the shards."""
    reasons: Counter[str] = Counter()
    for summary in summaries:
        reasons.update(summary["reasons"])
    numbers = {
        name: sum(summary[name] for summary in summaries)
        for name in summaries[0]
        if name != "reasons"
    }
    return {**numbers, "reasons": dict(reasons)}


def _join_checks(partial: Path, gathered: Path, parts: list[Path]) -> None:
    """Join what `check` writes beside the manifests."""
    total = _add_up([read_json(part / "summary.json") for part in parts])
    if not total["kept"]:
        raise PhantomscopeError(
            f"all {total['rejected']} synthetic images were rejected "
            f"({', '.join(f'{k}: {n}' for k, n in sorted(total['reasons'].items()))})",
            where="check",
            fix="train longer (`train.steps`), choose a smaller `start.value`, or look "
            "at the images and relax the limits of `check`",
        )
    join_tables(
        partial / "rejected.csv",
        [part / "rejected.csv" for part in parts],
        edit=relative_to(gathered),
    )
    join_tables(
        partial / "objects.csv",
        [part / "objects.csv" for part in parts],
        every=-(-total["objects"] // MOST_OBJECTS) or 1,
    )
    write_json(partial / "summary.json", total)


def gather(config: Config, *, parts: list[Path], gathered: Output) -> None:
    """Join the shards of an image set into one manifest; no pixel is copied."""
    info = {"stage": "gather", "seed": config.seed, "shards": len(parts)}

    def finish(partial: Path) -> None:
        if all((part / "summary.json").exists() for part in parts):
            _join_checks(partial, gathered, parts)

    join_sets(gathered, parts, info, finish)
