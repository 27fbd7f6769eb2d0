"""Processes and data whose way back is known exactly, to test samplers with."""

import numpy as np
import torch

from phantomscope.engine.process import (
    Process,
    cosine_alpha_bar,
    linear_alpha_bar,
    residual_eta,
    zero_terminal_snr,
)
from phantomscope.engine.samplers import (
    integrate,
)

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
