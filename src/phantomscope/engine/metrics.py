"""Metrics of a training on disk: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phantomscope.errors import explain_os_errors
from phantomscope.images.files import write_text


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line, with a `step` among other values."""
    with explain_os_errors(path):
        with path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def trim_lines(path: Path, last: int) -> None:
    """Drop the lines of steps after the last one that counts; they will run again."""
    kept = []
    with explain_os_errors(path):
        text = path.read_bytes() if path.exists() else b""
    for line in text.decode(errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= last:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            break
    # Written even when empty: somebody may have deleted it beside a finished state.
    write_text(path, "".join(kept))
