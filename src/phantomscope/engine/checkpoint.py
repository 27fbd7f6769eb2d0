"""Models and training states on disk: tensors and JSON only, never pickled code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file

FORMAT = 1


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
        If the file is missing, cut short, no checkpoint, of another format, or holds
        anything else than tensors and plain values.
    """
    with explain_os_errors(path):
        try:
            with warnings.catch_warnings():
                # About other pickle protocols: the error says all there is to say.
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            tensors, meta = content["tensors"], json.loads(content["meta"])
            if not (isinstance(tensors, dict) and isinstance(meta, dict)):
                raise ValueError("it holds no named tensors")
            return tensors, meta
        except OSError:
            raise
        except (
            RuntimeError, ValueError, KeyError, TypeError, EOFError, AttributeError,
            IndexError, pickle.UnpicklingError, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            raise PhantomscopeError(
                f"this checkpoint is damaged or of another program ({_reason(error)})",
                where=path,
                fix="delete it and run the same command again: training starts from "
                "the last good state, or anew",
            ) from error


def _reason(error: Exception) -> str:
    """Say in one line why a file is no checkpoint."""
    if isinstance(error, pickle.UnpicklingError):
        # torch proposes here to load the file unsafely; nobody should.
        return "it holds something else than tensors and plain values"
    if isinstance(error, EOFError):
        return "it is empty or cut short"
    text = " ".join(str(error).split()) or type(error).__name__
    if "zip archive" in text:
        return "it is cut short or no archive of tensors"
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
