"""Microtubules and mitochondria as organisms of the main job."""

import numpy as np
import pytest
from pydantic import ValidationError

from phantomscope.config.simulation import Simulate
from phantomscope.config.structures import Structures
from phantomscope.images.noise import generator
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.polylines import Polylines, Structure
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.simulate.structures import drawn_structure

SMALL = {"cell_diameter": 15.0}
STRUCTURES = Structures(filaments=SMALL, mitochondria=SMALL)


@pytest.mark.parametrize("organism", ["microtubules", "mitochondria"])
def test_a_sketch_has_labels_without_gaps(organism):
    options = Simulate(organism=organism, size=(96, 112), structures=STRUCTURES)
    kind = drawer_of(organism).kind(options)
    parameters = SketchParameters(types=[kind])
    sketch, labels, _ = simulate_sketch(parameters, options, 1, 3)
    assert sketch.shape == labels.shape == (96, 112)
    assert sketch.dtype == np.float32
    assert sketch.min() == 0
    assert sketch.max() <= 1
    assert labels.dtype == np.uint16
    count = int(labels.max())
    assert count > 2
    assert set(np.unique(labels)) == set(range(count + 1))
    assert sketch[labels > 0].mean() > 5 * sketch[labels == 0].mean()
    again = simulate_sketch(parameters, options, 1, 3)
    assert np.array_equal(again[0], sketch)
    assert np.array_equal(again[1], labels)


def test_labels_follow_the_lines():
    structure = microtubules(STRUCTURES.filaments, (2700, 2700), generator(1))
    sketch, labels = drawn_structure(structure, STRUCTURES, "lines")
    y, x = (structure.lines.points / 27).astype(int).T
    inside = ((structure.lines.points >= 0) & (structure.lines.points < 2700)).all(1)
    assert (labels[y[inside], x[inside]] > 0).all()
    assert labels.max() == len(np.unique(labels)) - 1
    assert sketch[y[inside], x[inside]].min() > 0.15


def test_a_line_is_half_as_bright_as_can_be():
    line = np.array([[270.0, -500], [270.0, 3000]])
    other = line + np.array([13.5, 0])
    for place in (line, other):
        structure = Structure(
            Polylines.of([place], [12.5]), (540, 540), np.zeros((0, 2))
        )
        sketch, _ = drawn_structure(structure, STRUCTURES, "lines")
        assert sketch.sum(axis=0) == pytest.approx(0.5 * 0.7 * (2 * np.pi) ** 0.5)
        assert 0.4 < sketch.max() < 0.55


def test_an_empty_field_has_no_labels():
    nothing = Structure(Polylines.of([], []), (540, 810), np.zeros((0, 2)))
    for kind in ("lines", "tubes"):
        sketch, labels = drawn_structure(nothing, STRUCTURES, kind)
        assert labels.shape == (20, 30)
        assert not labels.any()
        assert not sketch.any()


def test_structures_are_images_and_not_fitted():
    with pytest.raises(ValidationError, match="drawn as images"):
        Simulate(organism="microtubules", size=(16, 32, 32))
    with pytest.raises(ValidationError, match="not fitted"):
        Simulate(organism="mitochondria", variant="fitted")
