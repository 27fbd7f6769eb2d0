"""Who draws which organism.

A drawer gives the labelled sketches of one organism and the `SketchType` that tells
later stages how large and bright its objects are. A new organism is one more entry of
`DRAWERS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.background import finished
from phantomscope.simulate.meristem_shape import ShapeModel
from phantomscope.simulate.organisms import (
    CELEGANS,
    GOWT1,
    HELA,
    Order,
    Organism,
    Plan,
    Shape,
    Variant,
)
from phantomscope.simulate.parameters import (
    LEVELS,
    Background,
    SketchType,
)
from phantomscope.simulate.structures import StructureDrawer
from phantomscope.simulate.tissue import TissueDrawer
from phantomscope.simulate.tribolium import TRIBOLIUM

Drawn = tuple[NDArray[np.float32], NDArray[Any]]


class Drawer(Protocol):
    """Draws the sketches of one organism."""

    def kind(self, options: Simulate) -> SketchType:
        """Return what its own objects are like, for ``paper`` and ``code``."""
        ...

    def draw(
        self, options: Simulate, kind: SketchType, rng: np.random.Generator,
        organ: ShapeModel | None = None,
    ) -> Drawn:  # fmt: skip
        """Draw a sketch (float32 unit intensities) and labels of `options.size`.

        `kind` has the fitted parameters with `variant: fitted`, else what `kind` gives;
        `organ` is the learnt shape of the organ, for those that have one.
        """
        ...


@dataclass(frozen=True)
class NucleiDrawer:
    """Draws nuclei that an `Organism` plans."""

    name: str
    organism: Organism

    def kind(self, options: Simulate) -> SketchType:
        """Describe the nuclei of one sketch of the published size."""
        if options.variant == "fitted":
            raise ValueError("fitted parameters describe themselves")
        return _published_type(self.name, options.variant, options.objects)

    def draw(
        self, options: Simulate, kind: SketchType, rng: np.random.Generator,
        organ: ShapeModel | None = None,
    ) -> Drawn:  # fmt: skip
        """Draw a sketch and its labels; nuclei have no organ."""
        shape = math.prod(options.size[:-2]), options.size[-2], options.size[-1]
        plan, order = self.plan(options, kind, shape, rng)
        sketch, labels = self.organism.draw(plan, order)
        sketch, labels = sketch.reshape(options.size), labels.reshape(options.size)
        fitted = options.variant == "fitted"
        return (finished(sketch, kind, rng) if fitted else sketch), labels

    def plan(
        self, options: Simulate, kind: SketchType, shape: Shape,
        rng: np.random.Generator,
    ) -> tuple[Plan, Order]:  # fmt: skip
        """Plan the nuclei of a field of this shape (Z, Y, X).

        It may be larger than `options.size`: `objects` is in proportion.
        """
        fitted = options.variant == "fitted"
        flat = len(options.size) == 2
        if fitted and flat != (kind.volume is None):
            raise PhantomscopeError(
                f"the parameters of {kind.name} were fitted to "
                f"{'volumes' if flat else 'images'}, but {self.name} is drawn as "
                f"{'images' if flat else 'volumes'}",
                where="simulate.organism",
                fix="use `variant: paper`, or fit to images of as many dimensions",
            )
        count = _number(options.objects, rng)
        if count is not None:
            count = round(count * math.prod(shape) / math.prod(options.size))
        order = Order(
            options.variant, shape, count, kind if fitted else None,
            options.overlap or 0.0,
        )  # fmt: skip
        return self.organism.plan(order, rng), order


def _number(
    objects: int | tuple[int, int] | None, rng: np.random.Generator
) -> int | None:
    """Draw the number of nuclei that the options ask for."""
    if isinstance(objects, tuple):
        return int(rng.integers(objects[0], objects[1] + 1))
    return objects


def _sizes(plan: Plan, organism: Organism) -> NDArray[np.float64]:
    """Radius of each nucleus in px: of the circle or ball of the same size."""
    axes = plan.nuclei.axes
    if organism.volume is None:
        return np.asarray(np.sqrt(axes[:, 1] * axes[:, 2]))
    depth = 1.0 if organism.unit != 1 else organism.volume.spacing[0]
    return np.asarray(np.cbrt(axes.prod(axis=1) * depth) / organism.unit)


@lru_cache(maxsize=64)
def _published_type(
    name: str, variant: Variant, objects: int | tuple[int, int] | None
) -> SketchType:
    """Quantiles over the nuclei of one sketch of the published size."""
    drawer = DRAWERS[name]
    assert isinstance(drawer, NucleiDrawer)
    organism = drawer.organism
    rng = generator("published", name, variant, objects)
    size = organism.size
    shape = math.prod(size[:-2]), size[-2], size[-1]
    order = Order(variant, shape, _number(objects, rng))
    plan = organism.plan(order, rng)
    axes = plan.nuclei.axes[:, 1:]

    def quantiles(values: NDArray[np.float64]) -> list[float]:
        return [float(v) for v in np.quantile(values, LEVELS)]

    density = len(plan.nuclei) / math.prod(size) * 1e6
    return SketchType(
        name=name,
        radius=quantiles(np.maximum(_sizes(plan, organism), 1.0)),
        elongation=quantiles(axes.max(axis=1) / axes.min(axis=1)),
        intensity=quantiles(plan.nuclei.greys),
        density=[density] * len(LEVELS),
        clustering=0.0,
        overlap=0.0,
        edge=0.0,
        background=Background(level=0.0, read_noise=0.0),
        volume=organism.volume,
    )


DRAWERS: Mapping[str, Drawer] = {
    **{
        name: NucleiDrawer(name, organism)
        for name, organism in (
            ("hela", HELA),
            ("gowt1", GOWT1),
            ("celegans", CELEGANS),
            ("tribolium", TRIBOLIUM),
        )
    },
    "meristem": TissueDrawer(),
    "microtubules": StructureDrawer("microtubules"),
    "mitochondria": StructureDrawer("mitochondria"),
}


def drawer_of(organism: str) -> Drawer:
    """Return the drawer of an organism.

    Raises
    ------
    PhantomscopeError
        If there is none.
    """
    if organism not in DRAWERS:
        raise PhantomscopeError(
            f"there is no simulator of {organism}",
            where="simulate.organism",
            fix=f"use one of {', '.join(('fitted', *DRAWERS))}",
        )
    return DRAWERS[organism]
