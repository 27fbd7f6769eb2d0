"""Models and training states on disk: tensors and JSON only, never pickled code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file

FORMAT = 1
# All that a pickle of tensors and plain values calls; torch itself allows more, such
# as `bytearray` of any size.
_CALLS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(
        f"torch {kind}Storage"
        for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char",
            "Byte", "Bool",
        )
    ),
}  # fmt: skip


def fingerprint(content: Mapping[str, Any]) -> str:
    """Hash a JSON-like mapping: the identity of a config and its data."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(
    path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write tensors (nested dictionaries allowed) and JSON metadata atomically.

    The file is flushed to the disk before it gets its final name, so that a crash of
    the machine leaves the old or the new state, never a part.
    """
    content = {
        "format": FORMAT,
        "meta": json.dumps(dict(meta), sort_keys=True),
        "tensors": dict(tensors),
    }
    # Into memory first: torch hides a full disk behind an error of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(path) as temporary:
        with temporary.open("wb") as stream:
            stream.write(buffer.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Returns
    -------
    tensors, meta : dict

    Raises
    ------
    PhantomscopeError
        If the file is missing, cut short, damaged in any bit, no checkpoint, of
        another format, or holds anything else than finite tensors and plain values.
    """
    with explain_os_errors(path):
        try:
            copy = _checked_copy(path)
            with warnings.catch_warnings():
                # About other pickle protocols: the error says all there is to say.
                warnings.simplefilter("ignore")
                content = torch.load(copy, map_location="cpu", weights_only=True)
            if not isinstance(content, Mapping):
                raise ValueError("it holds no named tensors")
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            tensors, meta = content["tensors"], json.loads(content["meta"])
            if not (isinstance(tensors, dict) and isinstance(meta, dict)):
                raise ValueError("it holds no named tensors")
            _check_tensors(tensors)
            return tensors, meta
        except OSError:
            raise
        except MemoryError as error:
            raise PhantomscopeError(
                "this checkpoint does not fit into memory",
                where=path,
                fix="ask for more memory",
            ) from error
        except (
            RuntimeError, ValueError, LookupError, TypeError, EOFError, AttributeError,
            ArithmeticError, AssertionError, struct.error, zlib.error,
            pickle.UnpicklingError, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            raise PhantomscopeError(
                f"this checkpoint is damaged or of another program ({_reason(error)})",
                where=path,
                fix="delete it and run the same command again: training starts from "
                "the last good state, or anew",
            ) from error


def _checked_copy(path: Path) -> io.BytesIO:
    """Copy an archive of tensors into memory, unless `save_checkpoint` never wrote it.

    torch compares no checksum, unpacks what was compressed to nothing, and may find
    other records in a damaged archive than `zipfile` does: so it gets a clean one.
    """
    with path.open("rb") as stream:
        magic, size = stream.read(4), stream.seek(0, os.SEEK_END)
    if not size:
        raise EOFError
    if magic != b"PK\3\4":
        raise ValueError("it is no archive of tensors")
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as clean:
        records = archive.infolist()
        names = [record.filename for record in records]
        stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
        if not stored or sum(record.file_size for record in records) > size:
            raise ValueError("its records are compressed")
        if len(set(names)) < len(names):
            raise ValueError("two of its records have the same name")
        if sum(name.endswith("/data.pkl") for name in names) != 1:
            raise ValueError("it is no archive of tensors")
        for name in names:
            content = archive.read(name)  # compares the checksum
            if name.endswith("/data.pkl"):
                _check_calls(content)
            clean.writestr(name, content)
    copy.seek(0)
    return copy


def _check_calls(pickled: bytes) -> None:
    """Refuse a pickle that calls anything but what builds tensors."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and argument in _CALLS:
            continue
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX") or (
            opcode.name.startswith("EXT")
        ):
            raise pickle.UnpicklingError(f"it calls {argument}")


def _check_tensors(tensors: Mapping[str, Any]) -> None:
    """Refuse NaN, infinite and pretended values at any depth."""
    waiting, seen = [tensors], set()
    while waiting:
        value: Any = waiting.pop()
        if id(value) in seen:  # pickles may refer to one object many times
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_contiguous():
                raise ValueError("it has a tensor without values of its own")
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError("it has values that are NaN or infinite")
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"it holds a {type(value).__name__}")


def _reason(error: Exception) -> str:
    """Say in one line why a file is no checkpoint."""
    if isinstance(error, pickle.UnpicklingError):
        # torch proposes here to load the file unsafely; nobody should.
        return "it holds something else than tensors and plain values"
    if isinstance(error, EOFError):
        return "it is empty or cut short"
    if isinstance(error, zipfile.BadZipFile | zlib.error):
        return "it is damaged, cut short or no archive of tensors"
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:120]


def cpu_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a state dictionary to contiguous tensors on the CPU."""
    return {
        key: (
            cpu_tensors(value)
            if isinstance(value, Mapping)
            else value.detach().cpu().contiguous().clone()
            if isinstance(value, Tensor)
            else value
        )
        for key, value in state.items()
    }


def set_aside(checkpoint: Path, why: str) -> None:
    """Keep a training state that cannot be taken up under another name, and say so."""
    number = 0
    while (old := checkpoint.with_name(f"superseded-{number}.pt")).exists():
        number += 1
    with explain_os_errors(checkpoint):
        os.replace(checkpoint, old)
    print(f"The training state {why}: now {old}; training starts anew.")
