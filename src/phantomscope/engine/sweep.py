"""One sweep over an image: tiles by slabs, blended rows out as soon as they are whole.

A slab is one row of tiles or more, along the first axis of space. While a sweep goes
through the slabs, it holds one of them and the rows that the next one overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phantomscope.config import synthesis as options
from phantomscope.engine.fields import Field
from phantomscope.engine.unet import UNetSpec
from phantomscope.errors import PhantomscopeError
from phantomscope.images.tiles import (
    Tile,
    even_tile,
    reflect_index,
    tile_grid,
    tile_window,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Carry:
    """Sums of rows that are not whole yet.

    Attributes
    ----------
    total : Tensor, shape (C, rows, ...)
        Weighted sum of the tiles so far.
    weight : Tensor, shape (rows, ...)
        Sum of their weights.
    """

    total: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Tiling:
    """How an image is cut into tiles, and these into slabs.

    Attributes
    ----------
    shape : tuple of int
        Size of the image.
    side, overlap : tuple of int
        Size of a tile, and its overlap on each side.
    slabs : list of list of Tile
        Tiles in their order; those of one slab follow each other.
    window : Tensor, shape `side`
        Blending weights.
    """

    shape: Shape
    side: Shape
    overlap: Shape
    slabs: list[list[Tile]]
    window: Tensor

    @classmethod
    def of(
        cls, shape: Shape, tile: Shape, overlap: Shape, stride: int, window: str,
        device: torch.device, micro_batch: int = 1,
    ) -> Tiling:  # fmt: skip
        """Cut an image.

        Parameters
        ----------
        shape, tile, overlap : tuple of int
            Sizes along each axis; tiles are evened out, see `even_tile`.
        stride : int
            Of the network.
        window : str
            See `tile_window`.
        device : torch.device
            Where the window is needed.
        micro_batch : int
            Slabs have at least so many tiles, where the image has.
        """
        side = tuple(
            even_tile(n, t, o, stride)
            for n, t, o in zip(shape, tile, overlap, strict=True)
        )
        tiles = tile_grid(shape, side, overlap)
        count = math.prod(
            math.ceil(n / (t - 2 * o))
            for n, t, o in zip(shape[1:], side[1:], overlap[1:], strict=True)
        )
        size = count * math.ceil(micro_batch / count)
        slabs = [tiles[i : i + size] for i in range(0, len(tiles), size)]
        weights = torch.from_numpy(tile_window(side, overlap, window)).to(device)
        return cls(shape, side, overlap, slabs, weights)

    def cut(self, field: Field, slab: Sequence[Tile]) -> Callable[[Tile], Tensor]:
        """Read what a slab sees of a field, reflected beyond the edges.

        Returns
        -------
        callable
            Gives the part (C, ...) of one tile.
        """
        first, last = slab[0].origin[0], slab[-1].origin[0] + self.side[0]
        rows = reflect_index(first, last, self.shape[0])
        low = int(rows.min())
        block = _take(field.read(low, int(rows.max()) + 1), 1, rows - low)
        begins = [first]
        for axis in range(1, len(self.shape)):
            ends = [tile.origin[axis] for tile in slab]
            begin, end = min(ends), max(ends) + self.side[axis]
            begins.append(begin)
            block = _take(block, axis + 1, reflect_index(begin, end, self.shape[axis]))

        def part(tile: Tile) -> Tensor:
            places = zip(tile.origin, begins, self.side, strict=True)
            return block[
                (slice(None), *(slice(o - b, o - b + s) for o, b, s in places))
            ]

        return part

    def _bounds(self, slab: int) -> tuple[int, int, int]:
        """Rows of a slab: its first one, where whole ones end, and its last one."""
        begin = max(self.slabs[slab][0].origin[0], 0)
        reach = min(self.slabs[slab][-1].origin[0] + self.side[0], self.shape[0])
        if slab + 1 == len(self.slabs):
            return begin, reach, reach
        return begin, max(self.slabs[slab + 1][0].origin[0], 0), reach

    def sweep(
        self, work: Callable[[list[Tile]], Iterator[Tensor]], channels: int,
        first: int = 0, carry: Carry | None = None,
    ) -> Iterator[tuple[int, int, Tensor, Carry]]:  # fmt: skip
        """Blend tiles in their order, whatever the micro-batch.

        Parameters
        ----------
        work : callable
            ``work(slab)`` gives the values (C, ...) of each of its tiles.
        channels : int
            C.
        first : int
            Slab to begin with.
        carry : Carry, optional
            What the sweep gave with the slab before.

        Yields
        ------
        slab, row : int
            Number of the slab, and of the first row that became whole with it.
        rows : Tensor, shape (C, rows, ...)
            The whole rows, blended.
        carry : Carry
            Needed to go on with the next slab.
        """
        for number in range(first, len(self.slabs)):
            begin, whole, reach = self._bounds(number)
            size = (reach - begin, *self.shape[1:])
            total = self.window.new_zeros((channels, *size))
            weight = self.window.new_zeros(size)
            if carry is not None and carry.weight.shape[0]:
                known = carry.weight.shape[0]
                total[:, :known], weight[:known] = carry.total, carry.weight
            slab = self.slabs[number]
            for tile, values in zip(slab, work(slab), strict=True):
                rows = slice(tile.target[0].start - begin, tile.target[0].stop - begin)
                place = (rows, *tile.target[1:])
                window = self.window[tile.inside]
                total[(slice(None), *place)] += (
                    window * values[(slice(None), *tile.inside)]
                )
                weight[place] += window
            cut = whole - begin
            carry = Carry(total[:, cut:].clone(), weight[cut:].clone())
            blended = total[:, :cut] / weight[:cut].clamp_min(1e-6)
            yield number, begin, blended, carry


def make_tiling(
    config: options.Synthesise, spec: UNetSpec, shape: Shape, device: torch.device
) -> Tiling:
    """Cut an image of this size as a config asks for.

    Raises
    ------
    PhantomscopeError
        If the network is one for another number of dimensions.
    """
    if len(shape) != spec.dims:
        raise PhantomscopeError(
            f"the model is one of {spec.dims}D images, this one has the shape {shape}",
            fix="use a model that was trained on such images",
        )
    deep = spec.dims - 2
    return Tiling.of(
        shape,
        (*(config.tile_depth,) * deep, config.tile, config.tile),
        (*(config.overlap_depth,) * deep, config.overlap, config.overlap),
        spec.stride,
        config.window,
        device,
        config.micro_batch,
    )


def _take(x: Tensor, axis: int, index: object) -> Tensor:
    """Select along an axis; a plain run of indices is a view."""
    chosen = torch.as_tensor(index)
    low, count = int(chosen[0]), len(chosen)
    if torch.equal(chosen, torch.arange(low, low + count)):
        return x.narrow(axis, low, count)
    return x.index_select(axis, chosen.to(x.device))
