"""Input that is unusual but fine: it must work."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.bad_inputs.building import (
    acquiring,
    blobs,
    checking,
    labelled,
    sketches_of,
    training,
)
from benchmarks.bad_inputs.model import CANARY, Case, Invocation, Trap, run_here
from benchmarks.laboratory import Laboratory
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import data, sketching


def _mixed_sizes(folder: Path, lab: Laboratory) -> Invocation:
    labelled(folder, {"a.tif": blobs(), "b.tif": blobs((80, 200), 1)})
    return acquiring(folder, code=0)


def _into_an_empty_folder(folder: Path, lab: Laboratory) -> Invocation:
    (folder / "out").mkdir()
    return _mixed_sizes(folder, lab)


def _resuming(spoil: Callable[[Path, Laboratory], object]) -> Callable[..., Invocation]:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        state = folder / "state/state.pt"
        state.parent.mkdir()
        spoil(state, lab)
        call = training(folder, lab)
        return Invocation(call.argv, (*call.outputs, state), code=0)

    return build


def _cut_state(state: Path, lab: Laboratory) -> None:
    good = lab.folder / "model.pt.state/state.pt"
    state.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def _trapped_state(state: Path, lab: Laboratory) -> None:
    # The canary of the case lies beside the folder of the state.
    state.write_bytes(pickle.dumps(Trap(state.parents[1] / CANARY)))


def _finished_without_metrics(folder: Path, lab: Laboratory) -> Invocation:
    call = training(folder, lab)
    run_here(call)
    (folder / "state/metrics.jsonl").unlink()
    return Invocation(call.argv, call.outputs, code=0)


def _numbered(folder: Path, lab: Laboratory) -> Invocation:
    """Names such as 001 are text, also where a manifest refers to them."""
    images, prepared = folder / "images", folder / "prepared"
    normalisation, camera = folder / "normalisation.json", folder / "camera"
    with ImageSetWriter(images, {}) as writer:
        for n in range(1, 5):
            writer.add(f"{n:03}", blobs(seed=n), stratum="96x128")
    data.prepare(
        lab.config, images=images, prepared=prepared, normalisation=normalisation
    )
    sketching.photograph(
        lab.config, sketch=lab.sketch, prepared=prepared, normalisation=normalisation,
        sketches=sketches_of(lab), photographs=camera,
    )  # fmt: skip
    call = checking(folder, lab, normalisation=normalisation, synthetic=camera)
    return Invocation(call.argv, call.outputs, code=0)


CONTROLS: list[Case] = [
    Case("mixed-sizes", "control", _mixed_sizes, ()),
    Case("into-an-empty-folder", "control", _into_an_empty_folder, ()),
    Case("state-cut", "control", _resuming(_cut_state),
         ("damaged", "state.pt", "training starts anew")),
    Case("state-is-a-model", "control",
         _resuming(lambda p, lab: shutil.copyfile(lab.model, p)),
         ("superseded-0.pt", "training starts anew")),
    Case("state-is-a-trap", "control", _resuming(_trapped_state),
         ("no archive of tensors", "training starts anew")),
    Case("finished-without-metrics", "control", _finished_without_metrics, ()),
    Case("numbered-images", "control", _numbered, ()),
]  # fmt: skip
