"""Samplers against exact solutions: their order, and the distribution of samples."""

import numpy as np
import pytest
import torch
from tests.processes import (
    COSINE,
    EVEN,
    MEAN,
    ONE,
    SAMPLERS,
    SHIFT,
    SPREAD,
    TERMINAL,
    D,
    T,
    covariance,
    denoise,
    deterministic,
    even_times,
    flow,
    moments,
    orders,
    reverse_sde,
)

from phantomscope.engine.samplers import (
    ancestral_steps,
    combine,
    ddim_steps,
    dpm_steps,
    integrate,
    plan_steps,
)

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
