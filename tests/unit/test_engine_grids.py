"""Grids of times, and estimates that are brought back into their range."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.processes import (
    COSINE,
    EVEN,
    LINEAR,
    SAMPLERS,
    SHIFT,
    SPACINGS,
    TERMINAL,
    T,
)

from phantomscope.engine.process import (
    ancestral,
)
from phantomscope.engine.samplers import (
    ancestral_steps,
    clip_range,
    dynamic_threshold,
    plan_steps,
    time_grid,
)
from phantomscope.errors import PhantomscopeError

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
