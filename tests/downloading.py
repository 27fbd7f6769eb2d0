"""What tests of downloads share: a small file, and how a failure is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomscope.acquire.download import download
from phantomscope.errors import PhantomscopeError

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)
HASH = hashlib.sha256(CONTENT).hexdigest()
KNOWN = {"size": SIZE, "sha256": HASH}
FAST: dict[str, Any] = {"timeout": 30, "attempts": 3, "pause": 0.01}
# Of a server that hangs: long for a good answer on a busy machine, short for us.
HANGING = FAST | {"timeout": 1.0}


def partial_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def failure(call: Callable[[], object], target: Path) -> str:
    """The message; no file is left under the final name."""
    with pytest.raises(PhantomscopeError) as caught:
        call()
    assert not target.exists()
    assert caught.value.fix
    return str(caught.value)


def refused(url: str, target: Path, **options: Any) -> str:
    return failure(lambda: download(url, target, **FAST | options), target)
