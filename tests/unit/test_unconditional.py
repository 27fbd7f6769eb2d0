"""Unconditional images: the curve, the choice of steps, the timing, in miniature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks import unconditional
from benchmarks.laboratory import Laboratory

from phantomscope.engine.samplers import plan_steps


def test_the_curve_begins_with_the_full_chain(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
):
    # The model has 1000 times; no test waits for them.
    small = unconditional.random_model("small", 12)
    monkeypatch.setattr(unconditional.DiffusionModel, "load", lambda path: small)
    table = unconditional.curve(lab, 3, 64, steps=(2,), samplers=("ddim", "dpmpp_2m"),
                                threads=1, compiled=False)  # fmt: skip
    assert list(table["steps"]) == [12, 2, 2]
    assert list(table["spacing"]) == ["uniform", "uniform", "log_snr"]
    assert table.loc[0, "worst"] == table.loc[0, "raw"] == 0
    assert np.isfinite(table[["spectrum", "intensity", "frechet", "kernel"]]).all(
        axis=None
    )
    assert table.loc[0, "n_patches"] == 3


def test_the_fewest_steps_that_are_as_good_are_chosen():
    table = pd.DataFrame({"sampler": ["full chain", "a", "b", "b", "c"],
                          "steps": [1000, 10, 20, 50, 20], "raw": 0.0,
                          "worst": [0.0, 0.5, 0.01, 0.0, 0.3]})  # fmt: skip
    chosen = unconditional.fewest(table)
    assert (chosen["sampler"], chosen["steps"]) == ("b", 20)
    # An interval that reaches 0 does not forgive a value that is far off.
    lucky = table.assign(raw=[0.0, 0.5, 20.0, 0.0, 0.3])
    assert unconditional.fewest(lucky)["steps"] == 50
    table.loc[1:, "worst"] = 0.5
    assert unconditional.fewest(table)["sampler"] == "full chain"


def test_a_plain_step_is_one_of_the_ancestral_chain():
    model = unconditional.random_model("small", 10)
    torch.manual_seed(1)
    step = unconditional.plain_step(model, 16)
    torch.manual_seed(1)
    x = torch.randn(1, 1, 16, 16)
    noise = torch.randn(1, 1, 16, 16)
    torch.manual_seed(1)
    torch.randn(1, 1, 16, 16)
    found, plan = step(), plan_steps(model.process, 10, 10, "ddpm")[5]
    with torch.no_grad():
        output = model.network(x, torch.tensor([plan.t]))
    x0 = model.process.to_x0(output, x, plan.t).clamp(-1, 1)
    expected = plan.on_x * x + plan.on_x0 * x0 + plan.sigma * noise
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_row_says_what_was_timed_and_what_was_compared():
    full = pd.Series({"sampler": "full chain", "steps": 1000, "precision": "fp32",
                      "n_images": 4, "side": 64, "n_patches": 4, "n_real_patches": 9,
                      "worst": 0.0, "raw": 0.0})  # fmt: skip
    few = pd.Series({**full, "sampler": "dpmpp_2m", "steps": 20, "worst": 0.01})
    found = unconditional.Speed(2000.0, 25.0, 24.0, 60.0)
    row = unconditional.speed_row(found, "dpmpp_2m", 20, few, full, "demo")
    assert row.value == 80
    assert row.met
    assert "random weights" in row.what
    assert "20 of its 1000 steps" in row.what
    row = unconditional.speed_row(found, "ddpm", 2000, full, full, "demo")
    assert "no fewer steps" in row.what


def test_speed_is_timed_by_turns(monkeypatch: pytest.MonkeyPatch):
    shape = unconditional.options
    monkeypatch.setattr(
        unconditional, "options",
        lambda *a: shape(*a).model_copy(update={"compile": "never"}),
    )  # fmt: skip
    found = unconditional.speed("ddim", 2, preset="small", timesteps=10, side=32,
                                rounds=2, threads=1)  # fmt: skip
    assert 0 < found.evaluations
    assert found.ours > 0
    assert found.reference > 0
