"""The benchmark for a GPU, small and on a CPU."""

import math

import pytest
import torch
from benchmarks import engine_speed, gpu

from phantomscope.engine import accelerate, compiling, train


def test_every_area_gives_its_rows(monkeypatch):
    monkeypatch.setattr(engine_speed, "SIZES", {2: (32, 32), 3: (16, 16, 16)})
    monkeypatch.setattr(engine_speed, "SIDE", 64)
    # Compilation would take minutes; without a compiler kernels are eager.
    for module in (accelerate, compiling, train):
        monkeypatch.setattr(module, "missing", lambda _: "no compiler")
    tiny = gpu.Scale("small", 1, 64, 2, (16, 32), "small")
    found = gpu.rows(torch.device("cpu"), tiny)
    assert [row.id.removeprefix("engine.gpu_") for row in found] == [
        "evaluation_b1", "evaluation_b8", "evaluation_3d", "training",
        "sketch_to_image", "unconditional", "volume",
    ]  # fmt: skip
    assert all(math.isfinite(row.value) and row.value > 0 for row in found)
    assert all(row.floor for row in found)


@pytest.mark.parametrize(("arguments", "status"), [(["--list"], 0), ([], 1)])
def test_without_a_gpu_it_says_what_it_would_measure(
    arguments, status, capsys, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(arguments) == status
    output = capsys.readouterr()
    assert all(f"{area.__name__}: " in output.out for area in gpu.AREAS)
    assert ("no usable GPU" in output.err) == (status == 1)
