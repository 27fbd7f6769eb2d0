"""The samplers against exact solutions: for Gaussian data the best denoiser is known.

Data N(m, C). The estimate of x_0 is then affine in the state, the probability-flow ODE
has a closed solution, and so has the reverse SDE (it samples the posterior)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.processes import (
    COSINE,
    LINEAR,
    SAMPLERS,
    SHIFT,
    SPACINGS,
    TERMINAL,
    T,
)

from phantomscope.engine.process import (
    Process,
    cosine_alpha_bar,
)
from phantomscope.engine.samplers import (
    Step,
    ancestral_steps,
    combine,
    ddim_steps,
    dpm_steps,
    integrate,
    plan_steps,
)
from phantomscope.errors import PhantomscopeError

# --- the coefficients -----------------------------------------------------------------


@pytest.mark.parametrize("process", [COSINE, LINEAR], ids=["cosine", "linear"])
def test_dpm_solver_is_algorithm_2_of_lu_et_al(process):
    lam = np.log(process.a[1:] / process.s[1:])
    times = [900, 640, 333, 120, 7]
    for stochastic in (False, True):
        steps = dpm_steps(process, times, stochastic=stochastic)
        for k, (t, u) in enumerate(itertools.pairwise(times)):
            h, a, s = lam[u - 1] - lam[t - 1], process.a[u], process.s[u]
            if stochastic:
                on_x, on_d = s / process.s[t] * np.exp(-h), a * (1 - np.exp(-2 * h))
                sigma = s * np.sqrt(1 - np.exp(-2 * h))
            else:
                on_x, on_d, sigma = s / process.s[t], -a * np.expm1(-h), 0.0
            r = (lam[t - 1] - lam[times[k - 1] - 1]) / h if k else np.inf
            expected = [on_x, on_d * (1 + 1 / (2 * r)), -on_d / (2 * r), sigma]
            step = steps[k]
            got = [step.on_x, step.on_x0, step.on_last, step.sigma]
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_first_order_solvers_are_ddim_and_the_ancestral_sampler():
    pair = [700, 300]
    assert dpm_steps(COSINE, pair) == ddim_steps(COSINE, pair)
    (first,) = dpm_steps(COSINE, pair, stochastic=True)
    (step,) = ancestral_steps(COSINE, pair)
    for name in ("on_x", "on_x0", "sigma"):
        assert getattr(first, name) == pytest.approx(getattr(step, name))


def test_ddim_with_full_noise_and_all_steps_is_ddpm():
    times = list(range(T, -1, -1))
    ours = ddim_steps(COSINE, times, eta=1.0)
    for got, expected in zip(ours, ancestral_steps(COSINE, times), strict=True):
        for name in ("on_x", "on_x0", "on_last", "sigma"):
            value = getattr(expected, name)
            assert getattr(got, name) == pytest.approx(value, abs=1e-9)


def test_ddpm_is_the_posterior_mean_of_ho_et_al():
    abar = cosine_alpha_bar(T)
    beta = 1 - abar[1:] / abar[:-1]
    for step in ancestral_steps(COSINE, [999, 998, 500, 499, 1, 0]):
        if step.t - step.u > 1:
            continue
        t, b = step.t, beta[step.t - 1]
        on_x0 = np.sqrt(abar[t - 1]) * b / (1 - abar[t])
        on_x = np.sqrt(1 - b) * (1 - abar[t - 1]) / (1 - abar[t])
        assert (step.on_x0, step.on_x) == pytest.approx((on_x0, on_x), abs=1e-9)


def test_residual_shift_is_the_posterior_of_yue_et_al():
    eta, steps = SHIFT.b, ancestral_steps(SHIFT, list(range(15, -1, -1)))
    for step in steps:
        now, before = eta[step.t], eta[step.u]
        assert step.on_x == pytest.approx(before / now)
        assert step.on_x0 == pytest.approx((now - before) / now)
        assert step.sigma**2 == pytest.approx(4 * before / now * (now - before))
        assert step.on_condition == 0
    assert (steps[-1].on_x, steps[-1].on_x0, steps[-1].sigma) == (0, 1, 0)


def test_one_step_gives_the_prediction():
    (step,) = plan_steps(Process.one_step(), 1, 1, "ddpm", spacing="log_snr")
    assert step == Step(1, 0, 0.0, 1.0, 0.0, 0.0)


@st.composite
def plans(draw):
    """A process, a sampler's steps on any grid, and whether they keep the marginal."""
    process = draw(st.sampled_from([COSINE, LINEAR, TERMINAL, SHIFT]))
    names = SAMPLERS[:2] if process is SHIFT else SAMPLERS
    start = draw(st.integers(1, process.timesteps))
    steps = draw(st.integers(1, min(start, 40)))
    return process, plan_steps(
        process,
        start,
        steps,
        draw(st.sampled_from(names)),
        spacing=draw(st.sampled_from(SPACINGS)),
        eta=draw(st.floats(0, 1)),
    )


@given(plans())
def test_every_step_keeps_the_marginal(plan):
    """With the true x_0, x_u is N(a_u x_0 + b_u c, s_u^2), for every sampler."""
    process, steps = plan
    for step in steps:
        t, u = step.t, step.u
        spread = step.on_x**2 * process.s[t] ** 2 + step.sigma**2
        assert spread == pytest.approx(process.s[u] ** 2, abs=1e-9)
        on_x0 = step.on_x * process.a[t] + step.on_x0 + step.on_last
        assert on_x0 == pytest.approx(process.a[u], abs=1e-9)
        on_c = step.on_x * process.b[t] + step.on_condition
        assert on_c == pytest.approx(process.b[u], abs=1e-9)


@given(plans())
def test_the_last_step_ends_exactly_at_the_estimate(plan):
    _, steps = plan
    last = steps[-1]
    assert last == Step(last.t, 0, 0.0, 1.0, 0.0, 0.0)
    assert steps[0].on_last == 0
    for step in steps:
        values = (step.on_x, step.on_x0, step.on_last, step.sigma, step.on_condition)
        assert np.all(np.isfinite(values))
        assert all(type(value) is float for value in values)


def test_large_variance_is_beta_except_at_the_end():
    abar = cosine_alpha_bar(T)
    steps = ancestral_steps(COSINE, [500, 499, 2, 1, 0], "large")
    assert steps[0].sigma ** 2 == pytest.approx(1 - abar[500] / abar[499])
    assert steps[2].sigma ** 2 == pytest.approx(1 - abar[2] / abar[1])
    assert steps[-1].sigma == 0


def test_first_order_at_the_last_step_is_optional_above_zero():
    times = [800, 500, 200]
    assert dpm_steps(COSINE, times)[-1].on_last != 0
    lower = dpm_steps(COSINE, times, first_order_last=True)
    assert lower[-1] == ddim_steps(COSINE, times)[-1]


def test_terminal_noise_does_not_spoil_the_second_step():
    """From lambda = -infinity the first step says nothing about the slope."""
    steps = dpm_steps(TERMINAL, [T, 700, 400, 200, 0])
    assert [step.on_last != 0 for step in steps] == [False, False, True, False]
    assert steps[1] == ddim_steps(TERMINAL, [700, 400])[0]


def test_second_order_needs_gaussian_diffusion():
    with pytest.raises(PhantomscopeError, match="Gaussian diffusion"):
        dpm_steps(SHIFT, [15, 7, 0])


@pytest.mark.parametrize("times", [[], [5], [5, 5, 0], [3, 4], [4, -1]])
def test_times_must_fall(times):
    for make in (ancestral_steps, ddim_steps, dpm_steps):
        with pytest.raises(ValueError, match="must fall"):
            make(COSINE, times)


# --- the loop -------------------------------------------------------------------------


def test_a_step_is_the_linear_combination():
    x, x0, last, z, c = torch.randn(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    step = Step(5, 3, 0.5, 0.7, -0.2, 0.3, 0.1)
    expected = 0.5 * x + 0.7 * x0 - 0.2 * last + 0.3 * z + 0.1 * c
    torch.testing.assert_close(combine(step, x, x0, last, z, c), expected)
    with pytest.raises(ValueError, match="was not given"):
        combine(step, x, x0)


def test_a_step_gives_the_same_bits_wherever_a_pixel_lies():
    values = torch.randn(4, 37, generator=torch.Generator().manual_seed(0))
    step = Step(5, 3, 0.51, 0.73, -0.21, 0.33)
    whole = combine(step, *values)
    for i in range(37):
        assert torch.equal(combine(step, *values[:, i : i + 1]), whole[i : i + 1])


def test_the_loop_hands_on_the_last_estimate_and_asks_for_noise_where_needed():
    asked = []

    def noise(u):
        asked.append(u)
        return torch.zeros(1)

    steps = [Step(9, 5, 0.0, 1.0, 0.0, 0.0), Step(5, 2, 0.0, 0.0, 1.0, 0.5)]
    got = integrate(
        steps, torch.ones(1), lambda x, t: torch.full((1,), float(t)), noise
    )
    assert got.item() == 9
    assert asked == [2]
