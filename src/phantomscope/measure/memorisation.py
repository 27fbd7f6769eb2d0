"""Whether generated samples repeat training patches, up to symmetry and shift."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float32]

_SYMMETRIES = 8
# Bytes of correlation maps held at once, of which the transform needs about three
# times as many: on a processor what fits its cache, elsewhere what keeps it busy.
_BUDGET = {"cpu": 2 * 2**20, "cuda": 512 * 2**20}
# Bytes of the samples' spectra held at once.
_SPECTRA = 256 * 2**20


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
    by_patch : ndarray of float32, shape (n_samples, n_patches)
        The best score with each patch, whose maximum along a row is `score`.
    """

    score: Floats
    index: NDArray[np.int64]
    symmetry: NDArray[np.int64]
    shift: NDArray[np.int64]
    by_patch: Floats

    def aligned(self, number: int, patch: NDArray[Any]) -> NDArray[Any]:
        """Return a patch laid onto a sample.

        Parameters
        ----------
        number : int
            The sample, whose symmetry and shift are undone.
        patch : ndarray, shape (side, side)
            ``patches[index[number]]``, or anything that is to be moved with it.

        Returns
        -------
        ndarray, shape (side, side)
            The values of `patch`: equal to the sample if that is a copy.
        """
        back = -self.shift[number]
        moved = np.roll(patch, (int(back[0]), int(back[1])), (0, 1))
        symmetry = int(self.symmetry[number])
        moved = np.rot90(moved, -(symmetry % 4))
        return moved.T if symmetry >= 4 else moved


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
    at lag zero or over all circular shifts by fast Fourier transforms in float32. A
    circular shift compares all pixels, so one normalisation holds for all shifts. Of a
    copy that is cut out elsewhere, beside the patch by a share d of its side, 1 - d of
    the pixels agree and the score falls as much: cut patches that overlap. Patches that
    differ by a symmetry only are compared twice: leave augmented ones out.

    Parameters
    ----------
    samples : array_like, shape (n_samples, side, side)
        Generated images, real numbers.
    patches : array_like, shape (n_patches, side, side)
        Training images of the same size.
    all_shifts : bool, optional
        Search all circular shifts, which costs 8 n_samples n_patches transforms: of
        256 x 256 pixels about 0.14 ms each on one core.
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
    by_patch, flat = found[0].cpu().numpy(), found[1].cpu().numpy()
    # The flat index runs over patch, symmetry, and, with shifts, y and x.
    shape = (len(second), _SYMMETRIES, *((side, side) if all_shifts else (1, 1)))
    index, symmetry, y, x = np.unravel_index(flat, shape)
    by_patch = np.clip(by_patch, -1, 1)
    return NearestPatch(
        by_patch.max(axis=1), index, symmetry, np.stack([y, x], axis=1), by_patch
    )


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
    norm = np.sqrt(np.einsum("nyx,nyx->n", values, values))[:, None, None]
    # The mean of a constant image is rounded, so that its norm need not be 0.
    values *= np.where(constant, 0.0, 1 / np.where(constant, 1.0, norm))
    return values.astype(np.float32)


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
    """Return the best score by patch and the best's index in (patch, symmetry)."""
    pixels = patches[0].numel()
    known = patches.reshape(-1, pixels)
    step = max(1, _BUDGET[turned.device.type] // (4 * _SYMMETRIES * len(known)))
    best, flat = [], []
    for start in range(0, len(turned), step):
        chunk = turned[start : start + step]
        scores = known @ chunk.reshape(-1, pixels).T
        by_sample = scores.reshape(len(known), len(chunk), _SYMMETRIES).transpose(0, 1)
        best.append(by_sample.amax(dim=2))
        flat.append(by_sample.flatten(1).argmax(dim=1))
    return torch.cat(best), torch.cat(flat)


def _search_shifts(
    turned: torch.Tensor, patches: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best score by patch and its index in (patch, symmetry, y, x)."""
    side = patches.shape[-1]
    on_processor = turned.device.type == "cpu"
    threads = torch.get_num_threads() if on_processor else 1
    block = max(1, _SPECTRA // (4 * _SYMMETRIES * side**2))
    best, flat = [], []
    for start in range(0, len(turned), block):
        chunk = turned[start : start + block]
        # Two symmetries share a complex transform: one in the real part of each
        # correlation map, one in the imaginary part.
        packed = torch.complex(chunk[:, ::2], -chunk[:, 1::2])
        moved = torch.fft.fft2(packed).conj().resolve_conj()
        best.append(_best_by_patch(moved, patches, threads))
        for sample, patch in zip(moved, best[-1].argmax(dim=1), strict=True):
            # What is greatest is much cheaper to find than where, so that is done once.
            maps = torch.fft.ifft2(torch.fft.fft2(patches[patch]) * sample)
            by_symmetry = torch.view_as_real(maps).movedim(-1, 1)
            flat.append(by_symmetry.argmax() + patch * _SYMMETRIES * side**2)
    return torch.cat(best), torch.stack(flat)


def _best_by_patch(
    moved: torch.Tensor, patches: torch.Tensor, threads: int
) -> torch.Tensor:
    """Return the greatest correlation of each sample's spectra with each patch."""
    side = patches.shape[-1]
    step = max(1, _BUDGET[moved.device.type] // (4 * _SYMMETRIES * side**2))
    best = moved.real.new_empty((len(moved), len(patches)))

    def correlate(starts: Sequence[int]) -> None:
        # Memory that is asked for again and again costs as much as the transforms.
        shape = (min(step, len(patches)), *moved.shape[1:])
        product, maps = (moved.new_empty(shape) for _ in range(2))
        for start in starts:
            spectra = torch.fft.fft2(patches[start : start + step])[:, None]
            here = len(spectra)
            for i, sample in enumerate(moved):
                torch.mul(spectra, sample, out=product[:here])
                torch.fft.ifft2(product[:here], out=maps[:here])
                scores = torch.view_as_real(maps[:here]).flatten(1)
                best[i, start : start + here] = scores.amax(dim=1)

    starts = range(0, len(patches), step)
    if threads == 1:
        correlate(starts)
        return best
    # Each thread goes its own way: threads that share each transform wait for another.
    try:
        with ThreadPoolExecutor(
            threads, initializer=lambda: torch.set_num_threads(1)
        ) as pool:
            list(pool.map(correlate, [starts[n::threads] for n in range(threads)]))
    finally:
        torch.set_num_threads(threads)
    return best
