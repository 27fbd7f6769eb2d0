"""Whether generated samples repeat training patches, up to symmetry and shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float32]

_SYMMETRIES = 8
# Bytes of correlation maps held at once, of which the transform needs about three
# times as many: on a processor what fits its cache, elsewhere what keeps it busy.
_BUDGET = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}


@dataclass(frozen=True)
class NearestPatch:
    """The most similar training patch of each sample.

    ``patches[index]`` is most like ``numpy.roll(turned, shift, (0, 1))``, where
    `turned` is the sample under `symmetry`: the transpose if symmetry >= 4, then
    ``numpy.rot90`` symmetry % 4 times.

    Attributes
    ----------
    score : ndarray of float32, shape (n_samples,)
        Zero-mean normalised cross-correlation in [-1, 1]; 1 for a copy.
    index, symmetry : ndarray of int64, shape (n_samples,)
        The patch, and the symmetry in 0, ..., 7.
    shift : ndarray of int64, shape (n_samples, 2)
        Circular shift along y and x in pixels; zeros without shifts.
    """

    score: Floats
    index: NDArray[np.int64]
    symmetry: NDArray[np.int64]
    shift: NDArray[np.int64]


def nearest_patch(
    samples: ArrayLike,
    patches: ArrayLike,
    *,
    all_shifts: bool = True,
    device: str = "cpu",
) -> NearestPatch:
    """Return the training patch that each sample is most correlated with.

    The largest zero-mean normalised cross-correlation (Lewis 1995, Vision Interface,
    eq. 2, with circular shifts) over all patches and the 8 symmetries of the square,
    at lag zero or over all circular shifts by fast Fourier transforms in float32.

    Parameters
    ----------
    samples : array_like, shape (n_samples, side, side)
        Generated images, real numbers.
    patches : array_like, shape (n_patches, side, side)
        Training images of the same size.
    all_shifts : bool, optional
        Search all circular shifts, which costs 8 n_samples n_patches transforms.
    device : str, optional
        The torch device that correlates, "cpu" or "cuda".

    Returns
    -------
    NearestPatch
        A constant sample or patch correlates with nothing: its score is 0.

    Raises
    ------
    PhantomscopeError
        For stacks that are empty, not 3D, not square, of unequal sides, or not finite;
        for another device.
    """
    if torch.device(device).type not in _BUDGET:
        raise PhantomscopeError(f"unknown device: {device}", fix="use cpu or cuda")
    first = _stack(samples, "samples")
    second = _stack(patches, "patches")
    if first.shape[1:] != second.shape[1:]:
        raise PhantomscopeError(
            f"samples of {first.shape[1:]} pixels cannot be compared with patches of "
            f"{second.shape[1:]}",
            fix="cut both to the same size",
        )
    turned = torch.from_numpy(_turned(first)).to(device)
    known = torch.from_numpy(second).to(device)
    found = _search_shifts(turned, known) if all_shifts else _search(turned, known)
    side = first.shape[1]
    best, flat = found[0].cpu().numpy(), found[1].cpu().numpy()
    # The flat index runs over patch, symmetry, and, with shifts, y and x.
    shape = (len(second), _SYMMETRIES, *((side, side) if all_shifts else (1, 1)))
    index, symmetry, y, x = np.unravel_index(flat, shape)
    return NearestPatch(np.clip(best, -1, 1), index, symmetry, np.stack([y, x], axis=1))


def _stack(images: ArrayLike, name: str) -> Floats:
    """Return the stack with each image of mean 0 and norm 1, constant ones all 0."""
    values = checks.finite(images, name, (3,))
    if values.shape[1] != values.shape[2]:
        raise PhantomscopeError(
            f"{name} have {values.shape[1]} x {values.shape[2]} pixels, not a square",
            fix="cut square patches, as the symmetries need",
        )
    constant = np.ptp(values, axis=(1, 2), keepdims=True) == 0
    values -= values.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True))
    # The mean of a constant image is rounded, so that its norm need not be 0.
    unit = np.where(constant, 0.0, values / np.where(constant, 1.0, norm))
    return unit.astype(np.float32)


def _turned(images: Floats) -> Floats:
    """Return the images under the 8 symmetries, shape (n, 8, side, side)."""
    flipped = np.swapaxes(images, 1, 2)
    turned = [
        np.rot90(base, k, axes=(1, 2)) for base in (images, flipped) for k in range(4)
    ]
    return np.stack(turned, axis=1)


def _search(
    turned: torch.Tensor, patches: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best score and its index in (patch, symmetry) at lag zero."""
    pixels = patches[0].numel()
    known = patches.reshape(-1, pixels)
    step = max(1, _BUDGET[turned.device.type] // (4 * _SYMMETRIES * len(known)))
    found = []
    for start in range(0, len(turned), step):
        chunk = turned[start : start + step]
        scores = known @ chunk.reshape(-1, pixels).T
        by_sample = scores.reshape(len(known), len(chunk), _SYMMETRIES)
        found.append(by_sample.transpose(0, 1).flatten(1).max(dim=1))
    best = torch.cat([values for values, _ in found])
    return best, torch.cat([flat for _, flat in found])


def _search_shifts(
    turned: torch.Tensor, patches: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best score and its index in (patch, symmetry, y, x)."""
    side = patches.shape[-1]
    best = turned.new_full((len(turned),), -2.0)
    flat = torch.zeros(len(turned), dtype=torch.int64, device=turned.device)
    maps = _SYMMETRIES * side**2
    spectra = torch.fft.rfft2(patches)
    step = max(1, _BUDGET[turned.device.type] // (4 * maps))
    for i, sample in enumerate(turned):
        moved = torch.fft.rfft2(sample).conj()
        for start in range(0, len(patches), step):
            product = spectra[start : start + step, None] * moved
            scores = torch.fft.irfft2(product, s=(side, side)).flatten()
            position = scores.argmax()
            if scores[position] > best[i]:
                best[i] = scores[position]
                flat[i] = position + start * maps
    return best, flat
