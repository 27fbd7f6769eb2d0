"""Fourier ring correlation: known cut-offs, and its time."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from benchmarks.table import Row
from phantomscope.measure.frc import Taper, ring_correlation
from phantomscope.measure.resolution import resolution

CUTOFFS = (0.2, 0.3, 0.45)
RATIOS = (1, 3, 10)
COMMAND = "python -m benchmarks frc"


def pair(side: int, cutoff: float, ratio: float, seed: int) -> NDArray[np.float64]:
    """Return two noisy parts of one signal that has nothing beyond a cut-off.

    The ratio is that of the powers of signal and noise at each frequency below it. The
    signal is a part of a larger one, so that its borders do not fit together.
    """
    random = np.random.default_rng(seed)
    whole = side + side // 4
    spectrum = fft.rfft2(random.normal(size=(whole, whole)))
    radius = np.hypot(fft.fftfreq(whole)[:, None], fft.rfftfreq(whole))
    signal = fft.irfft2(spectrum * (radius <= cutoff), s=(whole, whole))
    images: NDArray[np.float64] = random.normal(0, ratio**-0.5, (2, side, side))
    images += 10 + signal[:side, :side]
    return images


def cutoff_error(side: int, seeds: int, taper: Taper = "tukey") -> float:
    """Return the greatest relative error of the cut-off; infinity if one is missed."""
    worst = 0.0
    for cutoff, ratio, seed in itertools.product(CUTOFFS, RATIOS, range(seeds)):
        images = pair(side, cutoff, ratio, seed)
        found = resolution(ring_correlation(images[0], images[1], taper=taper)).pixels
        error = abs(1 / found / cutoff - 1)
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def timed(side: int, repeats: int = 9) -> tuple[float, float]:
    """Return the median milliseconds of a curve, and of its two transforms alone."""
    images = np.random.default_rng(0).normal(size=(2, side, side))
    ring_correlation(images[0], images[1])
    curves, transforms = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        ring_correlation(images[0], images[1])
        between = time.perf_counter()
        fft.rfft2(images[0]), fft.rfft2(images[1])
        curves.append(between - begin)
        transforms.append(time.perf_counter() - between)
    return 1000 * float(np.median(curves)), 1000 * float(np.median(transforms))


def rows(folder: Path, side: int = 512, seeds: int = 3, large: int = 1024) -> list[Row]:
    """Measure the error of known cut-offs, and the time of a large pair."""
    error, hann = cutoff_error(side, seeds), cutoff_error(side, seeds, "hann")
    spent, floor = timed(large)
    cutoffs = ", ".join(map(str, CUTOFFS))
    ratios = ", ".join(map(str, RATIOS))
    return [
        Row("frc.cutoff_error",
            f"greatest relative error of the cut-off of {len(CUTOFFS) * len(RATIOS)} x "
            f"{seeds} band-limited pairs, Tukey taper, 1/7 (Hann: {hann:.3f})",
            f"{side} x {side} px; cut-offs {cutoffs} cycles/px; signal {ratios} times "
            "the power of noise", error, "", "<= 0.03", COMMAND,
            floor="the transform's step is "
            f"{1 / (side * min(CUTOFFS)):.3f} of the lowest cut-off"),
        Row("frc.milliseconds", f"one curve of {large} x {large} px, one thread",
            "random images", spent, "ms", "<= 150", COMMAND,
            floor=f"its two transforms alone take {floor:.0f} ms"),
    ]  # fmt: skip
