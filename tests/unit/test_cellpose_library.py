"""Cellpose is compiled once for all processes, and stays what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numba

from phantomscope.downstream.cellpose_library import kept_on_disk

# A module that numba compiles while it is imported, as those of Cellpose.
MODULE = """
from numba import njit

@njit("float32(float32)", nogil=True)
def double(x):
    return 2 * x

@njit("int32(int32)", cache=False)
def own(x):
    return x
"""
CODE = """
import json
from phantomscope.downstream.cellpose_library import kept_on_disk

with kept_on_disk():
    import compiled
kept = [dict(function.stats.cache_hits) for function in (compiled.double, compiled.own)]
print(json.dumps([[sum(hits.values()) for hits in kept], str(compiled.double(1.5))]))
"""


def test_the_next_process_loads_what_one_has_compiled(root: Path, tmp_path: Path):
    (tmp_path / "compiled.py").write_text(MODULE)
    paths = os.pathsep.join([str(root / "src"), str(tmp_path)])
    found = [
        json.loads(subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | {"PYTHONPATH": paths},
            capture_output=True, text=True, check=True,
        ).stdout)
        for _ in range(2)
    ]  # fmt: skip
    # What a library says itself is left alone.
    assert found == [[[0, 0], "3.0"], [[1, 0], "3.0"]]


def test_numba_is_left_as_it_was():
    plain = numba.njit
    with kept_on_disk():
        assert numba.njit is not plain
    assert numba.njit is plain
    with suppress(RuntimeError), kept_on_disk():
        raise RuntimeError
    assert numba.njit is plain
