"""Damaged, foreign and hostile checkpoints; none may run code that it carries."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bad_inputs.building import synthesising, write
from benchmarks.bad_inputs.model import CANARY, Case, Invocation, Trap
from benchmarks.laboratory import Laboratory
from phantomscope.engine.checkpoint import load_checkpoint, save_checkpoint

Spoil = Callable[[Path, Path], object]


def model_case(name: str, spoil: Spoil, *expect: str) -> Case:
    """Spoil a model: `spoil` gets the new path and the good model."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = folder / "model.pt"
        spoil(path, lab.model)
        return synthesising(folder, lab, model=path)

    return Case(name, "checkpoint", build, ("model.pt", *expect))


def trap(path: Path) -> Trap:
    """Return what makes the canary beside a file when it is unpickled."""
    return Trap(path.with_name(CANARY))


class Call:
    """Calls any function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class _Storages(pickle._Pickler):
    """Pickles tuples that begin with ``storage`` as torch refers to its records."""

    def persistent_id(self, value: Any) -> Any:
        is_storage = isinstance(value, tuple) and value[:1] == ("storage",)
        return value if is_storage else None


def _pickled(value: object) -> bytes:
    """Pickle a checkpoint that holds `value` in place of its weights."""
    stream = io.BytesIO()
    tensors = {"network": {"weight": value}}
    _Storages(stream, 2).dump({"format": 1, "meta": "{}", "tensors": tensors})
    return stream.getvalue()


def _view(numel: int, size: tuple[int, ...], stride: tuple[int, ...] = (1,)) -> Call:
    """Return a tensor that claims a storage, a size and strides."""
    storage = ("storage", torch.FloatStorage, "0", "cpu", numel)
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, 0, size, stride, False, OrderedDict())


def records(
    edit: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED
) -> Spoil:
    """Edit the records of the archive; those for which None comes are left out."""

    def spoil(path: Path, model: Path) -> None:
        with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
            for info in old.infolist():
                content = edit(info.filename, old.read(info))
                if content is not None:
                    new.writestr(info.filename, content, compression)

    return spoil


def pickled(make: Callable[[Path], object]) -> Spoil:
    """Replace the pickle of a good archive; `make` gets the path."""

    def spoil(path: Path, model: Path) -> None:
        new = _pickled(make(path))
        records(lambda name, old: new if name.endswith("/data.pkl") else old)(
            path, model
        )

    return spoil


def _two_pickles(path: Path, model: Path) -> None:
    shutil.copyfile(model, path)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile notes that the name is taken
            archive.writestr(name, pickle.dumps(trap(path)))


def _tar(path: Path, model: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(trap(path))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _numpy(path: Path, model: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([trap(path)], object), allow_pickle=True)
    write(path, stream.getvalue())


def _numpy_archive(path: Path, model: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, **{"x/data": np.array([trap(path)], object)})
    write(path, stream.getvalue())


def saved(make: Callable[[Path], object], **options: Any) -> Spoil:
    """Save something else by `torch.save`."""
    return lambda path, model: torch.save(make(path), path, **options)


def content(value: object, meta: object = "{}", number: object = 1) -> dict[str, Any]:
    """Return the content of a checkpoint with these tensors."""
    return {"format": number, "meta": meta, "tensors": value}


def changed(edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> Spoil:
    """Change weights and metadata of a good model; `edit` gets both."""

    def spoil(path: Path, model: Path) -> None:
        tensors, meta = load_checkpoint(model)
        edit(tensors["network"], meta)
        save_checkpoint(path, tensors, meta)

    return spoil


def first(edit: Callable[[Tensor], object]) -> Spoil:
    """Replace the first weight tensor."""

    def change(weights: dict[str, Any], meta: dict[str, Any]) -> None:
        name = next(iter(weights))
        weights[name] = edit(weights[name])

    return changed(change)


def flipped(record: str) -> Spoil:
    """Flip one bit in the middle of a record."""

    def spoil(path: Path, model: Path) -> None:
        data = bytearray(model.read_bytes())
        with zipfile.ZipFile(model) as archive:
            info = next(i for i in archive.infolist() if i.filename.endswith(record))
            place = data.index(archive.read(info)) + info.file_size // 2
        data[place] ^= 4
        path.write_bytes(data)

    return spoil


def _endless() -> dict[str, Any]:
    weights: dict[str, Any] = {}
    weights["weights"] = weights
    return {"network": weights}


def _huge_zeros(name: str, old: bytes) -> bytes:
    return bytes(1 << 26) if name.endswith("/data.pkl") else old


def _large_view(path: Path, model: Path) -> None:
    """Claim a size beyond a storage that is there."""
    with zipfile.ZipFile(model) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data/0"))
        numel = archive.getinfo(name).file_size // 4
    pickled(lambda p: _view(numel, (10**12,)))(path, model)


def _script(path: Path, model: Path) -> None:
    """Add the record by which torch knows a TorchScript archive."""
    shutil.copyfile(model, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))


DAMAGED = ("damaged or of another program", "delete it and run")
FOREIGN = (*DAMAGED, "no archive of tensors")
CODE = (*DAMAGED, "something else than tensors and plain values")
OTHER = ("no diffusion model", "delete it and run")

CUT = [
    model_case("model-cut", lambda p, m: p.write_bytes(m.read_bytes()[:500_000]),
               *FOREIGN),
    model_case("model-flipped-tail",
               lambda p, m: p.write_bytes(m.read_bytes()[:-200] + bytes(200)),
               *FOREIGN),
    model_case("model-flipped-weight", flipped("/data/0"), *DAMAGED),
    model_case("model-flipped-pickle", flipped("/data.pkl"), *DAMAGED),
    model_case("model-empty", lambda p, m: p.touch(), *DAMAGED, "cut short"),
    model_case("model-without-record",
               records(lambda n, x: None if n.endswith("/data/0") else x), *DAMAGED),
    model_case("model-with-short-record",
               records(lambda n, x: x[:4] if n.endswith("/data/0") else x), *DAMAGED),
    model_case("model-without-pickle",
               records(lambda n, x: None if n.endswith("/data.pkl") else x), *FOREIGN),
    model_case("model-of-torch-to-come",
               records(lambda n, x: b"99\n" if n.endswith("/version") else x),
               *DAMAGED, "version"),
    model_case("model-missing", lambda p, m: None, "no such file", "check the path"),
    model_case("model-is-a-folder", lambda p, m: p.mkdir(), "it is a folder"),
]  # fmt: skip

FOREIGNERS = [
    model_case("model-of-text", lambda p, m: write(p, "weights\n"), *FOREIGN),
    model_case("model-of-hdf5", lambda p, m: write(p, b"\x89HDF\r\n\x1a\n" * 9),
               *FOREIGN),
    model_case("model-of-safetensors", lambda p, m: write(p, b"\2\0\0\0\0\0\0\0{}"),
               *FOREIGN),
    model_case("model-of-old-torch",
               saved(lambda p: content({}), _use_new_zipfile_serialization=False),
               *FOREIGN),
    model_case("model-of-numpy", _numpy, *FOREIGN),
    model_case("model-is-a-script", _script, *DAMAGED),
    model_case("model-is-a-class", saved(lambda p: torch.nn.ReLU()), *CODE),
    model_case("model-is-a-tensor", saved(lambda p: torch.zeros(3)), *DAMAGED,
               "no named tensors"),
    model_case("model-is-a-list", saved(lambda p: [1, 2]), *DAMAGED,
               "no named tensors"),
]  # fmt: skip

TRAPS = [
    model_case("model-is-a-trap", lambda p, m: write(p, pickle.dumps(trap(p))),
               *FOREIGN),
    model_case("model-is-an-old-trap",
               lambda p, m: write(p, pickle.dumps(trap(p), protocol=0)), *FOREIGN),
    model_case("model-is-a-packed-trap",
               lambda p, m: write(p, gzip.compress(pickle.dumps(trap(p)))), *FOREIGN),
    model_case("model-is-a-trapped-tar", _tar, *FOREIGN),
    model_case("model-is-a-trapped-archive",
               saved(lambda p: content({}, meta=trap(p))), *CODE),
    model_case("model-with-trapped-weight",
               saved(lambda p: content({"network": {"weight": trap(p)}})), *CODE),
    model_case("model-of-old-torch-with-trap",
               saved(lambda p: trap(p), _use_new_zipfile_serialization=False),
               *FOREIGN),
    model_case("model-with-trapped-record", pickled(trap), *CODE),
    model_case("model-with-two-pickles", _two_pickles, *DAMAGED, "same name"),
    model_case("model-of-numpy-objects", _numpy_archive, *FOREIGN),
    model_case("model-calls-the-shell",
               pickled(lambda p: Call(os.system, f"touch {p.with_name(CANARY)}")),
               *CODE),
    model_case("model-calls-eval",
               pickled(lambda p: Call(eval, f"open('{p.with_name(CANARY)}', 'w')")),
               *CODE),
    model_case("model-calls-torch-load",
               pickled(lambda p: Call(torch.load, str(p))), *CODE),
]  # fmt: skip

BOMBS = [
    model_case("model-is-a-bomb", records(_huge_zeros, zipfile.ZIP_DEFLATED), *DAMAGED,
               "compressed"),
    model_case("model-asks-for-memory",
               pickled(lambda p: Call(bytearray, 1 << 40)), *CODE),
    model_case("model-claims-a-storage", pickled(lambda p: _view(10**15, (10**15,))),
               *DAMAGED),
    model_case("model-claims-a-negative-storage", pickled(lambda p: _view(-5, (3,))),
               *DAMAGED),
    model_case("model-claims-a-size", _large_view, *DAMAGED),
    model_case("model-claims-a-view",
               saved(lambda p: content({"w": torch.zeros(1).expand(10**12)})),
               *DAMAGED, "without values of its own"),
    model_case("model-claims-an-overflow",
               pickled(lambda p: _view(64, (2**40, 2**40), (0, 0))), *DAMAGED),
]  # fmt: skip

VALUES = [
    model_case("model-of-other-format", saved(lambda p: content({}, number=99)),
               *DAMAGED, "format 99"),
    model_case("model-without-format", saved(lambda p: {"tensors": {}, "meta": "{}"}),
               *DAMAGED),
    model_case("model-with-torn-meta", saved(lambda p: content({}, meta="{")),
               *DAMAGED),
    model_case("model-with-deep-meta", saved(lambda p: content({}, meta="[" * 99_999)),
               *DAMAGED),
    model_case("model-with-a-list-of-meta", saved(lambda p: content({}, meta="[1]")),
               *DAMAGED, "no named tensors"),
    model_case("model-of-words", saved(lambda p: content("weights")), *DAMAGED,
               "no named tensors"),
    model_case("model-of-sets", saved(lambda p: content({"network": {1, 2}})),
               *DAMAGED),
    model_case("model-sparse",
               saved(lambda p: content({"w": torch.eye(3).to_sparse()})), *CODE),
    model_case("model-complex",
               saved(lambda p: content({"w": torch.zeros(3, dtype=torch.complex64)})),
               *CODE),
    model_case("model-on-no-device",
               saved(lambda p: content({"w": torch.zeros(3, device="meta")})), *CODE),
    model_case("model-nan", first(lambda w: w * torch.nan), *DAMAGED, "NaN"),
    model_case("model-infinite", first(lambda w: w + torch.inf), *DAMAGED, "infinite"),
    model_case("model-other-shapes", first(lambda w: torch.zeros(3)), *OTHER,
               "size mismatch"),
    model_case("model-lacks-a-tensor", changed(lambda w, m: w.popitem()), *OTHER,
               "Missing key"),
    model_case("model-with-another-tensor",
               changed(lambda w, m: w.update(more=torch.zeros(1))), *OTHER,
               "Unexpected key"),
    model_case("model-weight-is-a-list", first(lambda w: [1.0, 2.0]), *OTHER),
    model_case("model-is-endless", saved(lambda p: content(_endless())), *OTHER),
    model_case("model-without-network",
               saved(lambda p: content({}, meta='{"network": {}, "process": {}}')),
               *OTHER),
    model_case("model-other-network",
               changed(lambda w, m: m.update(network={"preset": "enormous"})),
               "`network.preset`", "enormous"),
    model_case("model-larger-network",
               changed(lambda w, m: m.update(network={"preset": "eschweiler"})),
               *OTHER, "size mismatch"),
    model_case("model-other-process",
               changed(lambda w, m: m.update(process={"timesteps": -1})),
               "`process.timesteps`", "-1"),
    model_case("model-range-turned",
               changed(lambda w, m: m.update(value_range=[1.0, -1.0])), *OTHER),
    model_case("model-range-nan",
               changed(lambda w, m: m.update(value_range=[float("nan"), 1.0])), *OTHER),
    model_case("model-without-range", changed(lambda w, m: m.pop("value_range")),
               *OTHER),
    model_case("model-nameless", changed(lambda w, m: m.update(fingerprint="")),
               *OTHER, "how it was trained"),
]  # fmt: skip

CHECKPOINTS = [*CUT, *FOREIGNERS, *TRAPS, *BOMBS, *VALUES]
