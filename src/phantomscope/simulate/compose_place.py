"""How a crop is turned and laid into a layer, and how background is made whole.

All of it runs without Python's lock, so that threads compose images side by side.
"""

from __future__ import annotations

import math

import numba
import numpy as np

ADD, MULTIPLY, BLEND = 0, 1, 2
MODES = {"add": ADD, "multiply": MULTIPLY, "blend": BLEND}
# Random numbers of a crop: which one, base, factor, angle, two flips, zoom; then two
# for each place that is tried. Of a background: which, y, x, angle, two flips, fill.
CROP_DRAWS, PLACE_DRAWS, BACKGROUND_DRAWS = 7, 2, 7
# Columns of what is noted of a crop.
RECORD = ("crop", "y", "x", "height", "width", "pixels", "label")
BINS = 4096


@numba.njit(cache=True, nogil=True)
def within(draw, low, high):  # type: ignore[no-untyped-def]
    """Turn a uniform number of 0 to 1 into one between two others."""
    return low + draw * (high - low)


@numba.njit(cache=True, nogil=True)
def _turned(height, width, angle, zoom):  # type: ignore[no-untyped-def]
    """Size of a crop after rotation (degrees) and zoom."""
    cosine, sine = (
        abs(math.cos(math.radians(angle))),
        abs(math.sin(math.radians(angle))),
    )
    # What is above a whole pixel by rounding alone needs no other one.
    tall = math.ceil(zoom * (height * cosine + width * sine) - 1e-6)
    wide = math.ceil(zoom * (height * sine + width * cosine) - 1e-6)
    return max(1, tall), max(1, wide)


@numba.njit(cache=True, nogil=True)
def render(  # type: ignore[no-untyped-def]
    values, cover, start, height, width, base, factor, angle, flips, zoom, mode, most
):
    """Turn one crop by bilinear interpolation; beyond it there is nothing.

    Returns
    -------
    drawn, solid : ndarray, shape (Y, X)
        float32: light above the base (`ADD`), light that is let through (`MULTIPLY`),
        or light times opacity (`BLEND`); and opacity, 0 to 1.
    """
    tall, wide = _turned(height, width, angle, zoom)
    drawn = np.zeros((tall, wide), np.float32)
    solid = np.zeros((tall, wide), np.float32)
    light, opaque = _padded(values, cover, start, height, width, base, mode)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    factor, most = np.float32(factor), np.float32(most)
    at, down, right = _row(wide)
    stride = light.shape[1]
    for i in range(tall):
        v = (i - (tall - 1) / 2) / zoom
        v = -v if flips[0] else v
        for j in range(wide):
            u = (j - (wide - 1) / 2) / zoom
            u = -u if flips[1] else u
            # One more for the rim, in which all places beyond the crop end.
            y = cosine * v + sine * u + (height - 1) / 2 + 1
            x = cosine * u - sine * v + (width - 1) / 2 + 1
            y, x = min(max(y, 0.0), height + 1.0), min(max(x, 0.0), width + 1.0)
            top, left = np.int32(y), np.int32(x)
            at[j], down[j], right[j] = top * stride + left, y - top, x - left
        _interpolate(opaque, at, down, right, solid[i])
        _interpolate(light, at, down, right, drawn[i])
    if mode == MULTIPLY:
        for i in range(tall):
            for j in range(wide):
                drawn[i, j] = max(np.float32(1) - drawn[i, j], np.float32(0)) ** factor
    else:
        for i in range(tall):
            for j in range(wide):
                drawn[i, j] = min(factor * drawn[i, j], most)
    return drawn, solid


@numba.njit(cache=True, nogil=True)
def _padded(values, cover, start, height, width, base, mode):  # type: ignore[no-untyped-def]
    """Light (absorbed light for `MULTIPLY`) and opacity of a crop within a rim of 0."""
    light = np.zeros((height + 3, width + 3), np.float32)
    opaque = np.zeros((height + 3, width + 3), np.float32)
    base = np.float32(base)
    for i in range(height):
        for j in range(width):
            at = start + i * width + j
            if cover[at] > 0:
                opaque[i + 1, j + 1] = cover[at]
                above = values[at] - base
                if mode == MULTIPLY:
                    above = min(-above / base, np.float32(1))
                light[i + 1, j + 1] = cover[at] * max(above, np.float32(0))
    return light, opaque


@numba.njit(cache=True, nogil=True)
def _row(length):  # type: ignore[no-untyped-def]
    """Room for a row of places: first pixel, share of the next along y and x."""
    return (
        np.empty(length, np.uint32),
        np.empty(length, np.float32),
        np.empty(length, np.float32),
    )


@numba.njit(cache=True, nogil=True)
def _interpolate(image, at, down, right, out):  # type: ignore[no-untyped-def]
    """Interpolate a row bilinearly.

    Apart from the loop that finds the places, and without signs, the compiler makes
    vector code of both: three times as fast as pixel by pixel.
    """
    flat, one, stride = image.ravel(), np.uint32(1), np.uint32(image.shape[1])
    for j in range(len(out)):
        first, second = at[j], at[j] + stride
        upper = flat[first] + right[j] * (flat[first + one] - flat[first])
        lower = flat[second] + right[j] * (flat[second + one] - flat[second])
        out[j] = upper + down[j] * (lower - upper)


@numba.njit(cache=True, nogil=True)
def _fits(solid, y, x, used, counts, hits, number, most):  # type: ignore[no-untyped-def]
    """Whether a crop may lie at a place; one that nothing is seen of may not."""
    height, width = used.shape
    seen, shared = 0, 0
    hits[:number] = 0
    for i in range(max(0, -y), min(solid.shape[0], height - y)):
        for j in range(max(0, -x), min(solid.shape[1], width - x)):
            if solid[i, j] < 0.5:
                continue
            seen += 1
            bits = used[y + i, x + j]
            if bits == 0:
                continue
            shared += 1
            for other in range(number):
                if bits >> np.uint64(other) & np.uint64(1):
                    hits[other] += 1
    if seen == 0 or shared > most * seen:
        return 0
    for other in range(number):
        if hits[other] > most * counts[other]:
            return 0
    return seen


@numba.njit(cache=True, nogil=True)
def _lay(  # type: ignore[no-untyped-def]
    drawn, solid, y, x, mode, layer, opaque, labels, label, used, bit
):
    """Add a crop to its layer, its opacity to that of the layer, and its label."""
    height, width = layer.shape
    for i in range(max(0, -y), min(solid.shape[0], height - y)):
        for j in range(max(0, -x), min(solid.shape[1], width - x)):
            if solid[i, j] <= 0:
                continue
            at = (y + i, x + j)
            if mode == MULTIPLY:
                layer[at] *= drawn[i, j]
            elif mode == ADD:
                layer[at] += drawn[i, j]
            else:
                layer[at] = layer[at] * (1 - solid[i, j]) + drawn[i, j]
                opaque[at] += solid[i, j] * (1 - opaque[at])
            if solid[i, j] >= 0.5:
                labels[at] = label
                used[at] |= bit


@numba.njit(cache=True, nogil=True)
def _corner(draw, side, length, outside):  # type: ignore[no-untyped-def]
    """First pixel of a crop along an axis, of which a share may lie outside."""
    low, high = math.ceil(-outside * side), math.floor(length - side * (1 - outside))
    return min(low + int(draw * (max(low, high) - low + 1)), max(low, high))


@numba.njit(cache=True, nogil=True)
def place(  # type: ignore[no-untyped-def]
    values, cover, starts, sizes, bases, draws, count, first, rules,
    layer, opaque, labels, used, counts, record,
):  # fmt: skip
    """Lay `count` crops into a layer, each where it fits, or not at all.

    Parameters
    ----------
    values, cover : ndarray, shape (pixels,)
        float32 intensities and opacities of all crops, one after the other.
    starts, sizes, bases : ndarray, shape (n,), (n, 2), (n, 2)
        First pixel, (height, width), and least and greatest base of each crop.
    draws : ndarray, shape (most, CROP_DRAWS + PLACE_DRAWS * tries)
        Uniform numbers.
    count, first : int
        How many crops, and how many the tracker of overlaps knows already.
    rules : ndarray, shape (13,)
        Mode, factor (low, high, logarithmic), angle (low, high), zoom (low, high),
        flip, share outside, most overlap, least and greatest intensity.
    layer, opaque, labels, used : ndarray, shape (Y, X)
        Changed: light, opacity, labels 1, 2, ... and the tracker (one bit per crop).
    counts : ndarray, shape (64,)
        Changed: pixels of each crop that the tracker knows.
    record : ndarray, shape (most, 7)
        Changed: `RECORD` of each crop that was placed; label 0 of one that was not.

    Returns
    -------
    int
        How many crops the tracker knows now.
    """
    mode, number, label = int(rules[0]), first, 0
    hits = np.zeros(64, np.int64)
    tries = (draws.shape[1] - CROP_DRAWS) // PLACE_DRAWS
    for n in range(count):
        draw = draws[n]
        which = min(int(draw[0] * len(starts)), len(starts) - 1)
        height, width = sizes[which]
        base = within(draw[1], bases[which, 0], bases[which, 1])
        if rules[3] > 0:
            factor = math.exp(within(draw[2], math.log(rules[1]), math.log(rules[2])))
        else:
            factor = within(draw[2], rules[1], rules[2])
        flips = (rules[8] > 0 and draw[4] < 0.5, rules[8] > 0 and draw[5] < 0.5)
        drawn, solid = render(
            values, cover, starts[which], height, width, base, factor,
            within(draw[3], rules[4], rules[5]), flips,
            within(draw[6], rules[6], rules[7]), mode, rules[12] - rules[11],
        )  # fmt: skip
        tall, wide = solid.shape
        record[n, 6] = 0
        for t in range(tries):
            at = CROP_DRAWS + PLACE_DRAWS * t
            y = _corner(draw[at], tall, layer.shape[0], rules[9])
            x = _corner(draw[at + 1], wide, layer.shape[1], rules[9])
            seen = _fits(solid, y, x, used, counts, hits, number, rules[10])
            if seen > 0:
                label += 1
                bit = np.uint64(1) << np.uint64(number)
                _lay(drawn, solid, y, x, mode, layer, opaque, labels, label, used, bit)
                counts[number] = seen
                number += 1
                record[n, 0], record[n, 1], record[n, 2] = which, y, x
                record[n, 3], record[n, 4] = tall, wide
                record[n, 5], record[n, 6] = seen, label
                break
    return number


@numba.njit(cache=True, nogil=True)
def _mirrored(place, length):  # type: ignore[no-untyped-def]
    """Fold an index back into 0 ... length - 1, mirrored about the end pixels."""
    if length == 1:
        return 0
    place = place % (2 * length - 2)
    return 2 * length - 2 - place if place >= length else place


@numba.njit(cache=True, nogil=True)
def filling(  # type: ignore[no-untyped-def]
    values, start, width, top, left, tall, wide, shares, draw
):
    """One value between two quantiles of the pixels of a window that are no holes.

    Quantiles are those of a histogram of 4096 bins. One hole as a whole gives NaN.
    """
    low, high, known = np.inf, -np.inf, 0
    for i in range(tall):
        for j in range(wide):
            value = values[start + (top + i) * width + left + j]
            if not np.isnan(value):
                low, high, known = min(low, value), max(high, value), known + 1
    if known == 0 or low == high:
        return low if known else np.nan
    bins = np.zeros(BINS, np.int64)
    scale = (BINS - 1) / (high - low)
    for i in range(tall):
        for j in range(wide):
            value = values[start + (top + i) * width + left + j]
            if not np.isnan(value):
                bins[int((value - low) * scale)] += 1
    ends = np.zeros(2)
    for end in range(2):
        below, rank = 0, shares[end] / 100 * (known - 1)
        for n in range(BINS):
            below += bins[n]
            if below > rank:
                ends[end] = low + n / scale
                break
    return within(draw, ends[0], ends[1])


@numba.njit(cache=True, nogil=True)
def lay_background(  # type: ignore[no-untyped-def]
    values, starts, sizes, draw, angles, flip, shares, layer
):
    """Fill a layer with a part of a background, turned about its middle.

    Parameters
    ----------
    values, starts, sizes
        Pixels of all backgrounds, as those of crops; NaN are holes.
    draw : ndarray, shape (BACKGROUND_DRAWS,)
        Uniform numbers.
    angles, flip, shares
        Least and greatest rotation (degrees), whether to mirror, and the percentiles
        between which holes are filled.
    layer : ndarray, shape (Y, X)
        Changed, Y = X. Beyond the part that is turned it is mirrored.
    """
    which = min(int(draw[0] * len(starts)), len(starts) - 1)
    start, height, width = starts[which], sizes[which, 0], sizes[which, 1]
    tall, wide = min(height, layer.shape[0]), min(width, layer.shape[1])
    top = min(int(draw[1] * (height - tall + 1)), height - tall)
    left = min(int(draw[2] * (width - wide + 1)), width - wide)
    fill = filling(values, start, width, top, left, tall, wide, shares, draw[6])
    if np.isnan(fill):  # the window is one hole
        fill = filling(values, start, width, 0, 0, height, width, shares, draw[6])
    fill = np.float32(fill)
    # A row and a column more, of weight 0, so that each pixel has a next one.
    whole = np.zeros((layer.shape[0] + 1, layer.shape[1] + 1), np.float32)
    for i in range(layer.shape[0]):
        row = start + (top + _mirrored(i, tall)) * width + left
        part, line = values[row : row + wide], whole[i]
        for j in range(wide):
            line[j] = fill if np.isnan(part[j]) else part[j]
        for j in range(wide, layer.shape[1]):
            whole[i, j] = whole[i, _mirrored(j, wide)]
    angle = math.radians(within(draw[3], angles[0], angles[1]))
    cosine, sine = math.cos(angle), math.sin(angle)
    flip_y, flip_x = flip and draw[4] < 0.5, flip and draw[5] < 0.5
    last_y, last_x = layer.shape[0] - 1.0, layer.shape[1] - 1.0
    at, down, right = _row(layer.shape[1])
    stride = whole.shape[1]
    for i in range(layer.shape[0]):
        v = i - last_y / 2
        v = -v if flip_y else v
        for j in range(layer.shape[1]):
            u = j - last_x / 2
            u = -u if flip_x else u
            y = abs(cosine * v + sine * u + last_y / 2)
            x = abs(cosine * u - sine * v + last_x / 2)
            # Turned by any angle, a square is mirrored once at most at each end.
            y, x = last_y - abs(last_y - y), last_x - abs(last_x - x)
            a, b = np.int32(y), np.int32(x)
            at[j], down[j], right[j] = a * stride + b, y - a, x - b
        _interpolate(whole, at, down, right, layer[i])


@numba.njit(cache=True, nogil=True)
def combine(  # type: ignore[no-untyped-def]
    mode, low, high, target, over_target, other, over_other, background, image
):
    """Compose an image, and leave in other and background what is seen of them."""
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if mode == MULTIPLY:
                value = target[i, j] * other[i, j] * background[i, j]
            else:
                if mode == BLEND:
                    through = 1 - over_target[i, j]
                    other[i, j] *= through
                    background[i, j] *= through * (1 - over_other[i, j])
                value = target[i, j] + other[i, j] + background[i, j]
            image[i, j] = min(max(value, low), high)
