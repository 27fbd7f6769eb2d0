"""The benchmark of volumes, in miniature."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import volumes

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("kind", ["growth", "time"])
def test_a_volume_says_what_it_took(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = {**volumes.KINDS[kind], "compile": "never"}
    monkeypatch.setitem(volumes.KINDS, kind, small)
    monkeypatch.setattr(volumes, "WARM", (8, 16, 16))
    found = volumes.synthesise(12, 40, tmp_path, 2, "small", kind)
    assert found["model_mb"] <= found["before_mb"] <= found["peak_mb"]
    assert 0 < found["evaluation_seconds"] < found["seconds"]
    assert found["evaluations"] == 2
    assert not (tmp_path / "states").exists()
    assert (tmp_path / "volume.ome.tif").stat().st_size > 12 * 40 * 40


def test_rows_of_the_published_size():
    found = {"seconds": 900.0, "peak_mb": 1700.0, "model_mb": 400.0,
             "evaluations": 144, "evaluation_seconds": 880.0}  # fmt: skip
    time, memory = volumes.published_rows(found, "512 x 512 x 180")
    assert (time.id, time.ratio, time.met) == ("engine.volume_512x512x180", 4.0, True)
    assert (memory.id, memory.value, memory.met) == ("engine.volume_memory", 1300, True)
