"""The stage that looks at every synthetic image and drops the bad ones."""

from __future__ import annotations

import os
import shutil
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
    replace_folder,
    write_json,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import ImageSet, write_manifest
from phantomscope.images.normalise import Normalisation
from phantomscope.measure.fidelity import Fidelity, check_fidelity
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.stages.data import kind_of


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


def _kept_row(
    row: dict[str, Any], part: ImageSet, gone: NDArray[Any], partial: Path, final: Path
) -> dict[str, Any]:
    """Manifest row of a kept image; labels of vanished objects are erased."""
    prefix = os.path.relpath(part.folder, final)
    row = {**row, "image": f"{prefix}/{row['image']}"}
    if not len(gone):
        return {**row, "mask": f"{prefix}/{row['mask']}"}
    labels = part.mask(row["id"])
    labels = np.where(np.isin(labels, gone), 0, labels).astype(labels.dtype)
    path = f"labels/{row['id']}.ome.tif"
    write_ome_tiff(partial / path, labels)
    return {**row, "mask": path, "mask_sha256": pixel_hash(labels)}


@dataclass
class _Verdicts:
    """What was found so far."""

    kept: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    objects: list[pd.DataFrame] = field(default_factory=list)
    erased: int = 0

    def add(
        self, part: ImageSet, identifier: str, fidelity: Fidelity, options: Check,
        partial: Path, final: Path,
    ) -> None:  # fmt: skip
        """Keep or reject one image, and note its scores."""
        gone = fidelity.vanished(options.min_contrast)
        row = part.row(identifier) | {
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
        self.kept.append(_kept_row(row, part, numbers, partial, final))

    def write(self, partial: Path, seed: int) -> None:
        """Write manifest, rejected images, objects and summary."""
        reasons: dict[str, int] = {}
        for row in self.rejected:
            for reason in row["reason"].split("; "):
                reasons[reason] = reasons.get(reason, 0) + 1
        table = pd.concat(self.objects, ignore_index=True)
        write_manifest(partial, self.kept, {"stage": "check", "seed": seed})
        columns = list(dict.fromkeys([*self.kept[0], "reason"]))
        dropped = pd.DataFrame(self.rejected, columns=columns)
        write_text(partial / "rejected.csv", dropped.to_csv(index=False))
        write_text(partial / "objects.csv", table.to_csv(index=False))
        summary = {
            "images": len(self.kept) + len(self.rejected),
            "kept": len(self.kept),
            "rejected": len(self.rejected),
            "objects": len(table),
            "erased_labels": self.erased,
            "reasons": reasons,
        }
        write_json(partial / "summary.json", summary)


def check(
    config: Config, *, normalisation: Path, sketch: Path, synthetic: list[Path],
    checked: Path,
) -> None:  # fmt: skip
    """Score every synthetic image and object, and drop the bad ones."""
    scale = Normalisation.load(normalisation)
    parameters = SketchParameters.load(sketch)
    check_replaceable(checked)
    partial = checked.with_name(f".{checked.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    parts = [ImageSet.open(folder).having("type", "limits") for folder in synthetic]
    places = {i: part for part in parts for i in part.ids}
    verdicts = _Verdicts()
    with Progress("checking", len(places), unit="images") as progress:
        for identifier in sorted(places):
            part = places[identifier]
            row = part.row(identifier)
            unit = scale.to_unit(part.image(identifier), row["limits"])
            kind = kind_of(parameters, row["type"], sketch)
            fidelity = check_fidelity(unit, part.mask(identifier), kind.radius[3])
            verdicts.add(part, identifier, fidelity, config.check, partial, checked)
            progress.advance()
    if not verdicts.kept:
        shutil.rmtree(partial, ignore_errors=True)
        reason = "; ".join(sorted({r["reason"] for r in verdicts.rejected}))
        raise PhantomscopeError(
            f"all {len(verdicts.rejected)} synthetic images were rejected ({reason})",
            where="check",
            fix="train longer (`train.steps`), choose a smaller `start.value`, or look "
            "at the images and relax the limits of `check`",
        )
    verdicts.write(partial, config.seed)
    replace_folder(partial, checked)
