"""Tissues of membranes as an organism, as published and as fitted."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from phantomscope.config.meristem import Meristem
from phantomscope.config.simulation import Fit, Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.fidelity import check_fidelity
from phantomscope.simulate.membrane import membrane_sketch
from phantomscope.simulate.meristem import draw_meristem
from phantomscope.simulate.meristem_fit import cell_diameter
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.simulate.tissue import fit_tissue
from phantomscope.simulate.wall_fit import border_distance

SIZE = (24, 72, 80)
BLOCK = {"organ": "block", "cell_diameter": 18, "membrane_radius": 1.5}


def options(**changes) -> Simulate:
    given = {"organism": "meristem", "size": SIZE, "meristem": BLOCK}
    return Simulate(**(given | changes))


def published(**changes):
    drawn = options(**changes)
    kind = drawer_of("meristem").kind(drawn)
    parameters = SketchParameters(types=[kind])
    return simulate_sketch(parameters, drawn, 0, 0)


def test_a_published_tissue_is_labelled_without_gaps():
    sketch, labels, kind = published()
    assert sketch.shape == labels.shape == SIZE
    assert sketch.dtype == np.float32
    assert 0 <= sketch.min() < sketch.max() <= 1
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))
    assert kind.tissue is not None
    assert kind.radius[3] == pytest.approx(cell_diameter(labels) / 2, rel=0.15)


def test_it_is_a_function_of_seed_and_number():
    first, again = published()[0], published()[0]
    assert np.array_equal(first, again)


def test_parameters_survive_a_file(tmp_path):
    parameters = SketchParameters(types=[drawer_of("meristem").kind(options())])
    parameters.save(tmp_path / "sketch.yaml")
    assert SketchParameters.load(tmp_path / "sketch.yaml").types[0].tissue is not None


def test_a_fit_recovers_size_and_light_of_the_cells():
    sketch, labels, _ = published()
    rng = np.random.default_rng(0)
    image = (0.1 + 0.7 * sketch + 0.01 * rng.standard_normal(SIZE)).astype(np.float32)
    kind = fit_tissue([image], Fit(), options(variant="fitted"), 0)
    assert kind.radius[3] == pytest.approx(cell_diameter(labels) / 2, rel=0.35)
    assert kind.background.level == pytest.approx(0.1, abs=0.05)
    assert kind.intensity[-1] == pytest.approx(0.7, rel=0.4)
    # Of 1.5 on one side of the border, and so of 0.75 on each of both.
    assert kind.tissue.membrane_radius < 1.5
    drawn, found, _ = simulate_sketch(
        SketchParameters(types=[kind]), options(variant="fitted"), 0, 0
    )
    assert drawn.shape == SIZE
    assert found.max() == pytest.approx(labels.max(), rel=0.6)


def test_thick_walls_are_fitted_thick():
    thick = {"meristem": BLOCK | {"membrane_radius": 5}}
    drawn = options(**thick)
    parameters = SketchParameters(types=[drawer_of("meristem").kind(drawn)])
    sketch, _, _ = simulate_sketch(parameters, drawn, 0, 0)
    image = np.asarray(0.1 + 0.7 * sketch, np.float32)
    # What the config says about walls counts for `paper` only.
    kind = fit_tissue([image], Fit(), options(variant="fitted"), 0)
    assert kind.tissue.membrane_radius == pytest.approx(2.5, abs=1.3)
    found, _, _ = simulate_sketch(
        SketchParameters(types=[kind]), options(variant="fitted"), 0, 0
    )
    assert (found > 0.3).mean() == pytest.approx((image > 0.4).mean(), abs=0.1)


def fitted_to(radius, blur):
    """Return an image of small cells with these walls, and what was fitted to it."""
    small = {"organ": "block", "cell_diameter": 9}
    cells = small | {"membrane_radius": radius, "membrane_sides": "both"}
    drawn = options(meristem=cells, size=(32, 80, 88))
    parameters = SketchParameters(types=[drawer_of("meristem").kind(drawn)])
    sketch, _, _ = simulate_sketch(parameters, drawn, 0, 0)
    image = np.asarray(0.1 + 0.7 * gaussian_filter(sketch, blur), np.float32)
    wanted = options(meristem=small, size=(32, 80, 88), variant="fitted")
    kind = fit_tissue([image], Fit(), wanted, 0)
    again, _, _ = simulate_sketch(SketchParameters(types=[kind]), wanted, 0, 0)
    return image, kind, again


def test_soft_walls_are_told_from_thick_ones():
    soft, thick = fitted_to(1.0, 2.0), fitted_to(3.0, 0.5)
    for image, kind, again in (soft, thick):
        # Walls lie in the middle of the borders, and look alike.
        assert kind.tissue.membrane_sides == "both"
        levels = [0.25, 0.5, 0.75]
        assert np.quantile(again, levels) == pytest.approx(
            np.quantile(image, levels), abs=0.1
        )
    assert soft[1].edge > 1.0
    assert soft[1].tissue.membrane_radius < 2.8
    assert thick[1].edge < 0.8
    assert thick[1].tissue.membrane_radius == pytest.approx(3, abs=0.8)


def test_distance_from_the_border_is_that_of_the_drawn_walls():
    cells = Meristem(**BLOCK, membrane_sides="both", decline=0)
    _, labels = draw_meristem(cells, SIZE, np.random.default_rng(0))
    for radius in (1.0, 2.3, 6.0):
        walls = membrane_sketch(labels, radius, 0, cells.spacing, sides="both") > 0
        assert np.array_equal(walls, border_distance(labels, cells.spacing) <= radius)
    assert np.isinf(border_distance(np.ones((4, 4, 4), int), (1, 1, 1))).all()


def test_nothing_to_fit_is_said():
    with pytest.raises(PhantomscopeError):
        fit_tissue([], Fit(), options(variant="fitted"), 0)


def test_membranes_that_show_their_cells_are_faithful():
    sketch, labels, kind = published()
    good = check_fidelity(sketch, labels, kind.radius[3], membranes=True)
    shuffled = np.random.default_rng(0).permutation(sketch.ravel()).reshape(SIZE)
    bad = check_fidelity(shuffled, labels, kind.radius[3], membranes=True)
    assert good.f1 > bad.f1
    assert good.phantoms == 0
    assert good.agreement > 0.5
    assert np.median(good.objects["contrast"]) > np.median(bad.objects["contrast"])
