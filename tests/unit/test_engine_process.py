"""The process against the textbook formulas of its special cases."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phantomscope.config import diffusion as options
from phantomscope.engine.process import (
    Process,
    ancestral,
    cosine_alpha_bar,
    ddim,
    linear_alpha_bar,
    make_process,
    respace,
    transitions,
)
from phantomscope.errors import PhantomscopeError

T = 1000
ABAR = cosine_alpha_bar(T)
BETA = 1 - ABAR[1:] / ABAR[:-1]
COSINE = make_process(options.Process())


def residual() -> Process:
    eta = np.concatenate([[0.0], np.linspace(0.001, 0.99, 15)])
    return Process.residual_shift(eta, kappa=2.0)


@pytest.mark.parametrize(
    ("t", "a", "s"),
    [(100, 0.986, 0.167), (200, 0.948, 0.318), (400, 0.805, 0.594),
     (600, 0.584, 0.812), (800, 0.307, 0.952)],
)  # fmt: skip
def test_cosine_schedule_has_the_values_of_the_paper(t, a, s):
    assert COSINE.a[t] == pytest.approx(a, abs=6e-4)
    assert COSINE.s[t] == pytest.approx(s, abs=6e-4)


def test_schedules_fall_from_one_and_keep_variance():
    for abar in (ABAR, linear_alpha_bar(T), linear_alpha_bar(250)):
        assert abar[0] == 1
        assert np.all(np.diff(abar) < 0)
        process = Process.gaussian(abar)
        np.testing.assert_allclose(process.a**2 + process.s**2, 1, atol=1e-12)
    assert linear_alpha_bar(T)[-1] == pytest.approx(4.036e-5, rel=1e-3)  # Ho et al.


@pytest.mark.parametrize("t", [1, 2, 10, 500, 999])
def test_ancestral_step_is_the_posterior_of_ho_et_al(t):
    """Eqs. 6 and 7 of Ho et al. 2020, coefficients of x_0 and x_t."""
    step = ancestral(COSINE, t, t - 1)
    beta, abar, before = BETA[t - 1], ABAR[t], ABAR[t - 1]
    of_x0 = np.sqrt(before) * beta / (1 - abar)
    of_xt = np.sqrt(1 - beta) * (1 - before) / (1 - abar)
    assert COSINE.a[t - 1] - step.rho * COSINE.a[t] == pytest.approx(of_x0, abs=1e-9)
    assert step.rho == pytest.approx(of_xt, abs=1e-9)
    variance = beta * (1 - before) / (1 - abar)
    assert step.sigma**2 == pytest.approx(variance, abs=1e-9)


@pytest.mark.parametrize("t", [2, 10, 500, 999])
def test_large_variance_is_beta(t):
    step = ancestral(COSINE, t, t - 1, "large")
    assert step.sigma**2 == pytest.approx(BETA[t - 1], rel=1e-9)


@pytest.mark.parametrize(("t", "u"), [(999, 900), (500, 100), (40, 3), (10, 0)])
def test_ddim_step_is_equation_12_of_song_et_al(t, u):
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=2)
    x0 = (x - np.sqrt(1 - ABAR[t]) * eps) / np.sqrt(ABAR[t])
    expected = np.sqrt(ABAR[u]) * x0 + np.sqrt(1 - ABAR[u]) * eps
    step = ddim(COSINE, t, u)
    got = COSINE.a[u] * x0 + step.rho * (x - COSINE.a[t] * x0)
    assert got == pytest.approx(expected)
    assert step.sigma == 0


def test_ddim_with_eta_one_is_the_ancestral_sampler():
    for t, u in ((999, 900), (300, 280), (20, 0)):
        assert ddim(COSINE, t, u, 1.0).rho == pytest.approx(ancestral(COSINE, t, u).rho)
        assert ddim(COSINE, t, u, 1.0).sigma == ancestral(COSINE, t, u).sigma


@given(st.integers(2, T), st.data())
def test_every_step_keeps_the_marginal(t, data):
    """rho^2 s_t^2 + sigma^2 = s_u^2: the definition of a valid step."""
    u = data.draw(st.integers(0, t - 1))
    eta = data.draw(st.floats(0, 1))
    for step in (ancestral(COSINE, t, u), ddim(COSINE, t, u, eta)):
        spread = step.rho**2 * COSINE.s[t] ** 2 + step.sigma**2
        assert spread == pytest.approx(COSINE.s[u] ** 2, abs=1e-9)


@pytest.mark.parametrize("t", [2, 7, 15])
def test_residual_shift_is_equation_7_of_yue_et_al(t):
    process = residual()
    eta, before = process.b[t], process.b[t - 1]
    alpha = eta - before
    step = ancestral(process, t, t - 1)
    # mean = eta_{t-1}/eta_t x_t + alpha_t/eta_t x_0, no y_0; variance as published
    assert step.rho == pytest.approx(before / eta)
    of_x0 = process.a[t - 1] - step.rho * process.a[t]
    of_y0 = process.b[t - 1] - step.rho * process.b[t]
    assert of_x0 == pytest.approx(alpha / eta)
    assert of_y0 == pytest.approx(0, abs=1e-12)
    assert step.sigma**2 == pytest.approx(2.0**2 * before / eta * alpha)


def test_one_step_process_starts_at_the_condition_and_ends_at_the_prediction():
    process = Process.one_step()
    x0, c, noise = torch.full((1, 1, 2), 3.0), torch.ones(1, 1, 2), torch.randn(1, 1, 2)
    assert torch.equal(process.q_sample(x0, 1, noise, c), c)
    step = ancestral(process, 1, 0)
    assert (step.rho, step.sigma) == (0, 0)
    assert process.a[0] == 1


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_target_and_estimate_belong_together(prediction):
    process = Process.gaussian(ABAR, prediction)
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(3, 1, 4, 4, generator=generator)
    noise = torch.randn(3, 1, 4, 4, generator=generator)
    for t in (1, 300, 950):
        x = process.q_sample(x0, t, noise)
        back = process.to_x0(process.target(x0, t, noise), x, t)
        torch.testing.assert_close(back, x0, atol=2e-4, rtol=1e-3)


def test_q_sample_takes_a_time_per_item():
    x0, noise = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    x = COSINE.q_sample(x0, torch.tensor([1, 1000]), noise)
    assert x[0, 0, 0, 0] == pytest.approx(COSINE.a[1])
    assert x[1, 0, 0, 0] == pytest.approx(COSINE.a[1000])


@given(st.integers(1, 1000), st.data())
def test_respaced_times_are_distinct_and_reach_from_start_to_the_end(start, data):
    steps = data.draw(st.integers(1, start))
    times = respace(start, steps)
    assert times[0] == start
    assert times[-1] >= 1
    assert len(times) == steps
    assert all(a > b for a, b in itertools.pairwise(times))


def test_more_steps_than_times_are_refused():
    with pytest.raises(PhantomscopeError, match="30 steps do not fit"):
        respace(20, 30)


def test_transitions_end_at_the_clean_image():
    for sampler in ("ddim", "ddpm"):
        config = options.Synthesise(sampler=sampler, steps=7)
        steps = transitions(COSINE, 300, config)
        assert next(s.t for s in steps) == 300
        assert steps[-1].u == 0
        assert steps[-1].sigma == 0
        assert len(steps) == 7


def test_a_perfect_network_brings_the_image_back():
    """With the true noise as prediction every sampler without noise is exact."""
    x0 = torch.linspace(-1, 1, 9)[None, None]
    noise = torch.randn(1, 1, 9, generator=torch.Generator().manual_seed(0))
    x = COSINE.q_sample(x0, 400, noise)
    for step in transitions(COSINE, 400, options.Synthesise(steps=20)):
        eps = (x - COSINE.a[step.t] * x0) / COSINE.s[step.t]
        back = COSINE.to_x0(eps, x, step.t)
        x = COSINE.a[step.u] * back + step.rho * (x - COSINE.a[step.t] * back)
    torch.testing.assert_close(x.float(), x0, atol=1e-4, rtol=1e-3)
