"""Normal numbers by Philox4x32-10, compiled.

A module of its own: who only wants a generator of `noise` does not wait for numba.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


@numba.njit(cache=True)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10: four 32-bit words of counter and two of key to four words."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@numba.njit(cache=True, nogil=True)
def fill(out, z0, y0, x0, step, key):  # type: ignore[no-untyped-def]
    """Fill out (Z, Y, X) with standard normal numbers; four share one counter."""
    k0 = np.uint64(key) & _MASK
    k1 = np.uint64(key) >> _SHIFT
    turn = 2.0 * math.pi / 4294967296.0
    lanes = np.empty(4)
    depth, height, width = out.shape
    for z in range(depth):
        for y in range(height):
            # A block that no first voxel lies in: -1 is one that tiles may begin in.
            block = x0 // 4 - 1
            for x in range(width):
                place = x0 + x
                if place // 4 != block:
                    block = place // 4
                    w0, w1, w2, w3 = philox(
                        np.uint64(block) & _MASK,
                        np.uint64(y0 + y) & _MASK,
                        np.uint64(z0 + z) & _MASK,
                        np.uint64(step) & _MASK,
                        k0,
                        k1,
                    )
                    # Box and Muller; half a step keeps the logarithm finite.
                    ra = math.sqrt(-2.0 * math.log((w0 + 0.5) / 4294967296.0))
                    rb = math.sqrt(-2.0 * math.log((w2 + 0.5) / 4294967296.0))
                    lanes[0] = ra * math.cos(turn * w1)
                    lanes[1] = ra * math.sin(turn * w1)
                    lanes[2] = rb * math.cos(turn * w3)
                    lanes[3] = rb * math.sin(turn * w3)
                out[z, y, x] = lanes[place % 4]
