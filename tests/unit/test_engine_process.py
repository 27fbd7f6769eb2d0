"""The process against the textbook formulas of its special cases."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phantomscope.config import diffusion as options
from phantomscope.engine.objective import loss_weights
from phantomscope.engine.process import (
    Process,
    ancestral,
    cosine_alpha_bar,
    ddim,
    linear_alpha_bar,
    make_process,
    residual_eta,
    respace,
    zero_terminal_snr,
)
from phantomscope.engine.samplers import combine, plan_steps
from phantomscope.errors import PhantomscopeError

T = 1000
ABAR = cosine_alpha_bar(T)
BETA = 1 - ABAR[1:] / ABAR[:-1]
COSINE = make_process(options.Process())


def residual() -> Process:
    return Process.residual_shift(residual_eta(15, 0.1**2, 0.99**2), kappa=2.0)


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


def test_limits_of_beta_are_kept():
    # The released codes of the two papers with a cosine schedule.
    for lowest, highest in ((1e-4, 0.9999), (0.0, 0.999)):
        abar = cosine_alpha_bar(T, lowest=lowest, highest=highest)
        beta = 1 - abar[1:] / abar[:-1]
        assert beta.min() >= lowest - 1e-12
        assert beta[-1] == pytest.approx(highest)
        inside = (BETA > lowest) & (BETA < highest)
        np.testing.assert_allclose(beta[inside], BETA[inside], rtol=1e-9)
    assert BETA[0] < 1e-4


def test_linear_schedule_takes_its_ends():
    abar = linear_alpha_bar(2000, (1e-6, 0.01))
    beta = 1 - abar[1:] / abar[:-1]
    np.testing.assert_allclose(beta, np.linspace(1e-6, 0.01, 2000), atol=1e-12)
    same = linear_alpha_bar(T, (1e-4, 0.02))
    np.testing.assert_array_equal(same, linear_alpha_bar(T))


@pytest.mark.parametrize(
    ("timesteps", "first", "roots"),
    [(4, 0.1, [0.1, 0.5201, 0.7614, 0.99]),
     (15, 0.1, [0.1, 0.2825, 0.3592, 0.4238, 0.4828, 0.5383, 0.5918, 0.6437, 0.6946,
                0.7448, 0.7944, 0.8436, 0.8926, 0.9413, 0.99])],
)  # fmt: skip
def test_residual_schedule_has_the_values_of_the_released_configs(
    timesteps, first, roots
):
    eta = residual_eta(timesteps, first**2, 0.99**2)
    np.testing.assert_allclose(np.sqrt(eta[1:]), roots, atol=5.1e-5)
    assert eta[0] == 0
    assert eta.dtype == np.float64


def test_residual_schedule_is_the_formula_of_yue_et_al():
    steps, first, last, power = 15, 0.02**2, 0.99**2, 0.3
    eta = residual_eta(steps, first, last, power)
    base = np.exp(np.log(last / first) / (2 * (steps - 1)))
    for t in range(1, steps + 1):
        beta = ((t - 1) / (steps - 1)) ** power * (steps - 1)
        assert np.sqrt(eta[t]) == pytest.approx(np.sqrt(first) * base**beta)
    np.testing.assert_array_equal(residual_eta(1, first, last), [0, last])


@pytest.mark.parametrize("abar", [ABAR, linear_alpha_bar(T)], ids=["cosine", "linear"])
def test_zero_terminal_snr_ends_in_pure_noise(abar):
    scaled = zero_terminal_snr(abar)
    assert scaled[-1] == 0
    np.testing.assert_array_equal(scaled[:2], abar[:2])
    assert np.all(np.diff(scaled) < 0)
    # The map of the roots is affine: ratios of differences stay.
    a, b = np.sqrt(abar[1:]), np.sqrt(scaled[1:])
    np.testing.assert_allclose(
        (b - b[-1]) / (b[0] - b[-1]), (a - a[-1]) / (a[0] - a[-1]), atol=1e-12
    )


def test_a_prediction_that_does_not_tell_the_image_is_refused():
    scaled = zero_terminal_snr(ABAR)
    with pytest.raises(PhantomscopeError, match="nothing is left"):
        Process.gaussian(scaled, "eps")
    process = Process.gaussian(scaled, "v")
    x0 = torch.linspace(-1, 1, 5)[None]
    noise = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    x = process.q_sample(x0, T, noise)
    assert torch.equal(x, noise)
    assert torch.equal(process.to_x0(process.target(x0, T, noise), x, T), x0)
    shift = residual()
    with pytest.raises(PhantomscopeError, match="keeps the variance"):
        Process(shift.a, shift.b, shift.s, "v")


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


@given(st.data(), st.booleans())
def test_a_chain_of_fewer_steps_is_the_composition_of_all(data, shift):
    """Given x_0, going t -> u -> v by posteriors has the law of going t -> v."""
    process = residual() if shift else COSINE
    v, u, t = sorted(
        data.draw(
            st.lists(
                st.integers(0, process.timesteps), min_size=3, max_size=3, unique=True
            )
        )
    )
    far, near = ancestral(process, t, u), ancestral(process, u, v)
    direct = ancestral(process, t, v)
    assert near.rho * far.rho == pytest.approx(direct.rho, abs=1e-12)
    variance = near.rho**2 * far.sigma**2 + near.sigma**2
    assert variance == pytest.approx(direct.sigma**2, abs=1e-12)


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


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_batch_of_times_gives_what_each_time_gives(prediction):
    process = Process.gaussian(ABAR, prediction)
    generator = torch.Generator().manual_seed(2)
    x0, noise, output = torch.randn(3, 4, 1, 3, 3, generator=generator)
    t = torch.tensor([1, 250, 600, 990])
    x = process.q_sample(x0, t, noise)
    target, back = process.target(x0, t, noise), process.to_x0(output, x, t)
    for i, time in enumerate(t.tolist()):
        part = slice(i, i + 1)
        alone = process.q_sample(x0[part], time, noise[part])
        assert torch.equal(x[part], alone)
        assert torch.equal(target[part], process.target(x0[part], time, noise[part]))
        torch.testing.assert_close(
            back[part], process.to_x0(output[part], alone, time), rtol=1e-6, atol=1e-6
        )


def test_the_condition_is_taken_out_of_the_estimate():
    shift = residual()
    process = Process(shift.a, shift.b, shift.s, "eps")
    generator = torch.Generator().manual_seed(3)
    x0, noise, c = torch.randn(3, 2, 1, 4, dtype=torch.float64, generator=generator)
    for t in (3, torch.tensor([1, 15])):
        x = process.q_sample(x0, t, noise, c)
        torch.testing.assert_close(process.to_x0(noise, x, t, c), x0)


def test_times_in_the_unit_of_the_network():
    t = torch.tensor([1, 500, 2000])
    process = Process.gaussian(cosine_alpha_bar(2000), time_scale=1000 / 2000)
    assert process.network_time(t).tolist() == [0.5, 250, 1000]
    assert torch.equal(COSINE.network_time(t).float(), t.float())


def test_the_network_sees_states_of_unit_variance():
    shift, t = residual(), torch.tensor([1, 15])
    x = torch.ones(2, 1, 1, 1)
    expected = 1 / np.sqrt(2.0**2 * shift.b[[1, 15]] + 1)
    np.testing.assert_allclose(shift.scale_input(x, t).flatten(), expected, rtol=1e-6)
    # Bit for bit: models of Gaussian diffusion were trained without it.
    for time in range(1, T + 1):
        assert torch.equal(COSINE.scale_input(x, time), x)
    x = torch.randn(T, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(COSINE.scale_input(x, torch.arange(1, T + 1)), x)


def test_start_states():
    noise = torch.randn(1, 1, 4, generator=torch.Generator().manual_seed(0))
    c = torch.full_like(noise, 3.0)
    assert torch.equal(COSINE.prior(noise), noise)
    torch.testing.assert_close(residual().prior(noise, c), c + 2 * 0.99 * noise)
    assert torch.equal(Process.one_step().prior(noise, c), c)
    with pytest.raises(ValueError, match="condition"):
        residual().prior(noise)


@pytest.mark.parametrize("kind", ["min_snr", "bound"])
def test_loss_weights_do_not_depend_on_the_prediction(kind):
    """An error of x_0 costs the same, whatever the network predicts."""
    errors = {"x0": 1.0, "eps": (COSINE.a / COSINE.s.clip(1e-9)) ** 2,
              "v": 1 / COSINE.s.clip(1e-9) ** 2}  # fmt: skip
    costs = []
    for prediction, error in errors.items():
        weights = loss_weights(Process.gaussian(ABAR, prediction), kind)
        assert weights[0] == 0
        assert np.all(weights[1:] > 0)
        costs.append((weights * error)[1:])
    np.testing.assert_allclose(costs[1], costs[0], rtol=1e-9)
    np.testing.assert_allclose(costs[2], costs[0], rtol=1e-9)


def test_min_snr_weights_are_those_of_hang_et_al():
    snr = ABAR[1:] / (1 - ABAR[1:])
    clipped = np.minimum(snr, 5.0)
    for prediction, expected in (
        ("x0", clipped), ("eps", clipped / snr), ("v", clipped / (snr + 1))
    ):  # fmt: skip
        weights = loss_weights(Process.gaussian(ABAR, prediction), "min_snr")
        np.testing.assert_allclose(weights[1:], expected, rtol=1e-9)


def test_weights_of_the_bound_are_the_textbook_ones():
    """Eq. 12 of Ho et al. 2020, and the weight of Yue et al. 2023."""
    before, abar, beta = ABAR[1:-1], ABAR[2:], BETA[1:]
    variance = beta * (1 - before) / (1 - abar)
    expected = beta**2 / (2 * variance * (1 - beta) * (1 - abar))
    weights = loss_weights(COSINE, "bound")
    np.testing.assert_allclose(weights[2:], expected, rtol=1e-7)
    shift = residual()
    eta, last = shift.b[2:], shift.b[1:-1]
    weights = loss_weights(shift, "bound")
    np.testing.assert_allclose(weights[2:], (eta - last) / (8 * eta * last), rtol=1e-9)
    assert weights[1] == weights[2]
    with pytest.raises(ValueError, match="without noise"):
        loss_weights(Process.one_step(), "bound")
    assert loss_weights(Process.one_step()).tolist() == [0, 1]


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


def test_a_perfect_network_brings_the_image_back():
    """With the true noise as prediction every sampler without noise is exact."""
    x0 = torch.linspace(-1, 1, 9)[None, None]
    noise = torch.randn(1, 1, 9, generator=torch.Generator().manual_seed(0))
    x = COSINE.q_sample(x0, 400, noise)
    for step in plan_steps(COSINE, 400, 20):
        eps = (x - COSINE.a[step.t] * x0) / COSINE.s[step.t]
        back = COSINE.to_x0(eps, x, step.t)
        x = combine(step, x, back)
    torch.testing.assert_close(x.float(), x0, atol=1e-4, rtol=1e-3)
