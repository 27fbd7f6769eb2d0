"""The samplers against exact solutions: for Gaussian data the best denoiser is known.

Data N(m, C). The estimate of x_0 is then affine in the state, the probability-flow ODE
has a closed solution, and so has the reverse SDE (it samples the posterior).
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phantomscope.engine.process import (
    Process,
    ancestral,
    cosine_alpha_bar,
    linear_alpha_bar,
    residual_eta,
    zero_terminal_snr,
)
from phantomscope.engine.samplers import (
    Step,
    ancestral_steps,
    clip_range,
    combine,
    ddim_steps,
    dpm_steps,
    dynamic_threshold,
    integrate,
    plan_steps,
    time_grid,
)
from phantomscope.errors import PhantomscopeError

T = 1000
COSINE = Process.gaussian(cosine_alpha_bar(T), "x0")
LINEAR = Process.gaussian(linear_alpha_bar(T), "x0")
TERMINAL = Process.gaussian(zero_terminal_snr(cosine_alpha_bar(T)), "v")
SHIFT = Process.residual_shift(residual_eta(15, 0.1**2, 0.99**2), kappa=2.0)
# lambda falls by the same amount with each of the 1024 steps from t = 1025 to t = 1.
EVEN_LAMBDA = np.linspace(4, -4, 1025)
EVEN = Process.gaussian(
    np.concatenate([[1.0], 1 / (1 + np.exp(-2 * EVEN_LAMBDA))]), "x0"
)
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m")
SPACINGS = ("uniform", "log_snr", "quadratic")

D = 4
RNG = np.random.default_rng(0)
BASIS = np.linalg.qr(RNG.normal(size=(D, D)))[0]
SPREAD = np.array([0.02, 0.2, 1.0, 3.0])
MEAN, C, ONE = RNG.normal(size=D), BASIS @ np.diag(SPREAD) @ BASIS.T, np.eye(D)


def covariance(process, t):
    return process.a[t] ** 2 * C + process.s[t] ** 2 * ONE


def slope(process, t):
    """E[x_0 | x_t] = m + slope (x_t - a_t m)."""
    return process.a[t] * C @ np.linalg.inv(covariance(process, t))


def denoise(process):
    def predict(x, t):
        centred = x.numpy() - process.a[t] * MEAN
        return torch.from_numpy(MEAN + centred @ slope(process, t).T)

    return predict


def flow(process, t, u, x):
    """Solve the probability-flow ODE from t to u exactly."""
    before = process.a[t] ** 2 * SPREAD + process.s[t] ** 2
    after = process.a[u] ** 2 * SPREAD + process.s[u] ** 2
    matrix = BASIS @ np.diag(np.sqrt(after / before)) @ BASIS.T
    return process.a[u] * MEAN + (x - process.a[t] * MEAN) @ matrix


def reverse_sde(process, t, u, mean, spread):
    """Mean and covariance at u of a state N(mean, spread) at t, exactly."""
    gain, at_u = process.a[t] / process.a[u], covariance(process, u)
    back = gain * at_u @ np.linalg.inv(covariance(process, t))
    mean = process.a[u] * MEAN + back @ (mean - process.a[t] * MEAN)
    return mean, back @ spread @ back.T + at_u - gain * back @ at_u


def moments(process, steps, mean, spread):
    """Mean and covariance after the steps of a sampler: they are affine maps."""
    # The state and the estimate of the step before, both less their means.
    offset = np.concatenate([mean - process.a[steps[0].t] * MEAN, np.zeros(D)])
    joint = np.zeros((2 * D, 2 * D))
    joint[:D, :D] = spread
    for step in steps:
        k = slope(process, step.t)
        move = np.block(
            [[step.on_x * ONE + step.on_x0 * k, step.on_last * ONE], [k, 0 * ONE]]
        )
        offset, joint = move @ offset, move @ joint @ move.T
        joint[:D, :D] += step.sigma**2 * ONE
    return process.a[steps[-1].u] * MEAN + offset[:D], joint[:D, :D]


def deterministic(steps, process, x):
    def noise(u):
        raise AssertionError(f"a deterministic sampler asked for noise at {u}")

    return integrate(steps, torch.from_numpy(x), denoise(process), noise).numpy()


def orders(errors):
    """Observed orders of convergence when the steps are halved."""
    return np.log2(np.array(errors[:-1]) / errors[1:])


def even_times(count):
    return np.linspace(1025, 1, count + 1).round().astype(int).tolist()


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


# --- exact solutions ------------------------------------------------------------------


def errors_of(make):
    x = np.random.default_rng(1).normal(size=(20, D))
    truth = flow(EVEN, 1025, 1, x)
    counts = (32, 64, 128, 256)
    return [
        np.abs(deterministic(make(EVEN, even_times(n)), EVEN, x) - truth).max()
        for n in counts
    ]


def test_ddim_converges_with_order_one():
    errors = errors_of(ddim_steps)
    np.testing.assert_allclose(orders(errors), 1, atol=0.06)


def test_dpm_solver_converges_with_order_two():
    errors = errors_of(dpm_steps)
    np.testing.assert_allclose(orders(errors), 2, atol=0.06)
    assert errors[0] < errors_of(ddim_steps)[0] / 10


def test_ancestral_sampling_converges_in_distribution_with_order_one():
    assert_order(lambda times: ancestral_steps(EVEN, times), 1, 0.12)


def test_stochastic_dpm_solver_converges_in_distribution_with_order_two():
    assert_order(lambda times: dpm_steps(EVEN, times, stochastic=True), 2, 0.12)


def assert_order(make, order, tolerance):
    """From a noised sketch: its mean is not that of the data."""
    sketch = np.random.default_rng(2).normal(size=D)
    start = EVEN.a[1025] * sketch, EVEN.s[1025] ** 2 * ONE
    truth = reverse_sde(EVEN, 1025, 1, *start)
    errors = []
    for count in (64, 128, 256, 512):
        mean, spread = moments(EVEN, make(even_times(count)), *start)
        # The best estimate is a martingale: the mean has no error at all.
        np.testing.assert_allclose(mean, truth[0], atol=1e-10)
        errors.append(np.abs(spread - truth[1]).max())
    np.testing.assert_allclose(orders(errors), order, atol=tolerance)


@pytest.mark.parametrize("start", [T, 400])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_have_the_distribution_of_the_data(sampler, start):
    """From noise (or from noised data at t_start) to the clean image, 200 steps."""
    steps = plan_steps(COSINE, start, 200, sampler, spacing="log_snr")
    begin = (
        (0 * MEAN, ONE)
        if start == T
        else (COSINE.a[start] * MEAN, covariance(COSINE, start))
    )
    mean, spread = moments(COSINE, steps, *begin)
    np.testing.assert_allclose(mean, MEAN, atol=1e-3)
    tolerance = 0.06 if sampler in ("ddim", "ddpm") else 0.002
    np.testing.assert_allclose(
        np.linalg.eigvalsh(spread), SPREAD, rtol=tolerance, atol=1e-4
    )


def test_second_order_needs_fewer_steps():
    x = np.random.default_rng(1).normal(size=(20, D))
    truth = flow(COSINE, 400, 0, x)

    def error(sampler, steps, spacing):
        plan = plan_steps(COSINE, 400, steps, sampler, spacing=spacing)
        return np.abs(deterministic(plan, COSINE, x) - truth).max()

    assert error("dpmpp_2m", 10, "log_snr") < error("ddim", 50, "log_snr")
    assert error("dpmpp_2m", 10, "log_snr") < error("dpmpp_2m", 10, "uniform")


@pytest.mark.parametrize("process", [COSINE, TERMINAL], ids=["cosine", "terminal"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_estimate_brings_the_image_back(process, sampler):
    x0 = torch.linspace(-1, 1, 9, dtype=torch.float64)[None]
    generator = torch.Generator().manual_seed(0)

    def noise(_):
        return torch.randn(x0.shape, generator=generator, dtype=torch.float64)

    steps = plan_steps(process, T, 12, sampler)
    got = integrate(steps, process.prior(noise(T)), lambda x, t: x0, noise)
    assert torch.equal(got, x0)


def test_drawn_samples_have_the_moments_of_the_steps():
    """The loop does what the coefficients say, noise and memory included."""
    count = 40_000
    generator = torch.Generator().manual_seed(0)

    def noise(_=0):
        return torch.randn(count, D, generator=generator, dtype=torch.float64)

    steps = plan_steps(COSINE, T, 8, "sde_dpmpp_2m", spacing="log_snr")
    assert sum(step.on_last != 0 for step in steps) == 6
    x = integrate(steps, noise(), denoise(COSINE), noise).numpy()
    mean, spread = moments(COSINE, steps, 0 * MEAN, ONE)
    scale = np.sqrt(np.diag(spread))
    np.testing.assert_array_less(np.abs(x.mean(axis=0) - mean), 5 * scale / count**0.5)
    error = np.abs(np.cov(x.T) - spread) / np.outer(scale, scale)
    np.testing.assert_array_less(error, 5 * np.sqrt(2 / count))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_residual_shift_samples_go_from_the_condition_to_the_image(sampler):
    """For x_0 given c known, whatever the start, the end is x_0; from c + noise."""
    generator = torch.Generator().manual_seed(0)
    x0, c = torch.randn(2, 3, 1, 4, generator=generator)
    seen = []

    def noise(_):
        return torch.randn(x0.shape, generator=generator)

    def predict(x, t):
        seen.append(x)
        return x0

    steps = plan_steps(SHIFT, 15, 5, sampler)
    got = integrate(steps, SHIFT.prior(noise(15), c), predict, noise, c)
    assert torch.equal(got, x0)
    # Had x_0 been in the start state as well, each state would be the exact marginal.
    step, exact = steps[0], SHIFT.q_sample(x0, 15, torch.zeros_like(x0), c)
    state = combine(step, exact, x0, noise=torch.zeros_like(x0), condition=c)
    expected = SHIFT.q_sample(x0, step.u, torch.zeros_like(x0), c)
    torch.testing.assert_close(state, expected)
    assert len(seen) == 5


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


# --- grids ----------------------------------------------------------------------------


@given(st.data())
def test_grids_are_falling_times_from_start_to_zero(data):
    process = data.draw(st.sampled_from([COSINE, LINEAR, TERMINAL, SHIFT]))
    start = data.draw(st.integers(1, process.timesteps))
    steps = data.draw(st.integers(1, start))
    times = time_grid(process, start, steps, data.draw(st.sampled_from(SPACINGS)))
    assert (times[0], times[-1], len(times)) == (start, 0, steps + 1)
    assert all(t > u for t, u in itertools.pairwise(times))
    assert all(type(t) is int for t in times)


def test_grids_are_even_in_what_they_say():
    uniform = time_grid(COSINE, 600, 20, "uniform")
    assert uniform == list(range(600, -1, -30))
    quadratic = time_grid(COSINE, T, 10, "quadratic")
    assert quadratic == [10 * k**2 for k in range(10, -1, -1)]
    times = time_grid(EVEN, 1025, 17, "log_snr")
    assert times == [*range(1025, 0, -64), 0]
    lam = LINEAR.half_log_snr[time_grid(LINEAR, 900, 8, "log_snr")[:-1]]
    np.testing.assert_allclose(np.diff(lam), np.diff(lam).mean(), rtol=0.1)


def test_a_cosine_schedule_does_not_spend_its_steps_on_noise():
    lam = COSINE.half_log_snr
    assert lam[T] < -10
    times = time_grid(COSINE, T, 10, "log_snr")
    assert times[0] == T
    assert lam[times[1]] > -5.1


def test_more_steps_than_times_are_refused():
    with pytest.raises(PhantomscopeError, match="30 steps do not fit"):
        time_grid(COSINE, 20, 30, "log_snr")


def test_a_start_is_the_first_time_of_every_sampler():
    for sampler in SAMPLERS:
        steps = plan_steps(COSINE, 300, 7, sampler)
        assert [step.t for step in steps] == time_grid(COSINE, 300, 7)[:-1]


# --- estimates back into their range --------------------------------------------------


def test_clipping():
    x0 = torch.tensor([-3.0, -1.0, 0.5, 2.0])
    assert clip_range(x0, -1, 1.5).tolist() == [-1, -1, 0.5, 1.5]


def test_dynamic_threshold_leaves_estimates_within_the_range_alone():
    x0 = torch.linspace(-1, 1, 101, dtype=torch.float64)[None]
    torch.testing.assert_close(dynamic_threshold(x0, -1, 1), x0)
    # Fewer values outside than the share allows: plain clipping.
    x0[0, -1] = 50.0
    assert dynamic_threshold(x0, -1, 1, share=0.9)[0, -1] == 1
    torch.testing.assert_close(
        dynamic_threshold(x0, -1, 1, share=0.9)[0, :-1], x0[0, :-1]
    )


def test_dynamic_threshold_shrinks_by_the_share_of_each_item():
    x0 = torch.arange(1.0, 101.0, dtype=torch.float64).reshape(1, 10, 10) / 50
    both = torch.cat([x0, x0 / 10])
    got = dynamic_threshold(both, -1, 1, share=0.9)
    # 90 of 100 values are at most 1.8.
    torch.testing.assert_close(got[0], x0[0].clamp(max=1.8) / 1.8)
    torch.testing.assert_close(got[1], both[1])
    shifted = dynamic_threshold(2 * both + 3, 1, 5, share=0.9)
    torch.testing.assert_close(shifted, 2 * got + 3)


@given(st.integers(0, 1000), st.floats(0.01, 1), st.floats(-3, 3), st.floats(0.1, 5))
def test_dynamic_threshold_stays_within_the_range(seed, share, low, width):
    generator = torch.Generator().manual_seed(seed)
    x0 = 10 * torch.randn(2, 3, 5, generator=generator)
    got = dynamic_threshold(x0, low, low + width, share)
    assert got.min() >= np.float32(low)
    assert got.max() <= np.float32(low + width)
    flat, before = got.flatten(1), x0.flatten(1)
    order = before.argsort(dim=1)
    assert bool((flat.gather(1, order).diff(dim=1) >= -1e-6).all())


def test_steps_are_the_transitions_of_the_process():
    (step,) = ancestral_steps(COSINE, [400, 250])
    move = ancestral(COSINE, 400, 250)
    assert (step.on_x, step.sigma) == (move.rho, move.sigma)
    assert step.on_x0 == COSINE.a[250] - move.rho * COSINE.a[400]
