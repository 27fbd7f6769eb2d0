"""Networks of mitochondria: what is counted against what was asked for."""

import itertools

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import KDTree

from phantomscope.config.structures import Mitochondria
from phantomscope.images.noise import generator
from phantomscope.simulate.mitochondria import (
    Network,
    divided,
    grown_network,
)
from phantomscope.simulate.polylines import Polylines

SMALL = Mitochondria(cell_diameter=20, length=5)
LONELY = SMALL.model_copy(
    update={
        "branching": 0.0,
        "fusion_chance": 0.0,
        "crossing_chance": 0.0,
        "fission": 0.0,
    }
)


def changed(**options):
    return SMALL.model_copy(update=options)


def lengths(net: Network):
    return Polylines.of(net.tubes, net.radii).lengths()


def test_a_cell_has_the_density_that_was_asked_for():
    options = changed(density=0.3)
    total = lengths(grown_network(options, generator(1))).sum()
    area = np.pi * 10**2
    # The last tube with its side tubes is not cut; the outline varies.
    assert total / 1000 / area == pytest.approx(0.3, rel=0.35)
    assert total / 1000 / area > 0.29


def test_tubes_that_do_not_fuse_stay_apart():
    net = grown_network(LONELY, generator(2))
    assert not net.junctions
    pieces = divided(net, LONELY, generator(3))
    assert len(set(pieces.lines.ids)) == len(net.tubes) > 10
    apart = 2 * LONELY.radius + LONELY.gap
    trees = [KDTree(tube) for tube in net.tubes]
    nearest = [
        a.sparse_distance_matrix(b, apart).nnz and a.query(b.data)[0].min()
        for i, a in enumerate(trees)
        for b in trees[:i]
    ]
    # To the pitch of the grid on which room is kept.
    assert min((d for d in nearest if d), default=apart) > apart - 4 * LONELY.step


def test_branches_of_a_tree_are_counted():
    options = LONELY.model_copy(update={"branching": 0.2})
    net = grown_network(options, generator(4))
    assert len(net.junctions) > 10
    for joint in net.junctions:
        place = net.tubes[joint.side][joint.point]
        assert np.array_equal(net.tubes[joint.tip][joint.end], place)
    pieces = divided(net, options, generator(5))
    # A tree: each branch joins two tubes that did not hang together.
    count = len(net.tubes) - len(net.junctions)
    assert len(set(pieces.lines.ids)) == count
    assert len(pieces.junctions) == len(net.junctions)


def test_branching_is_a_rate():
    options = LONELY.model_copy(update={"branching": 0.2, "gap": 0.0, "radius": 50.0})
    nets = [grown_network(options, generator("rate", i)) for i in range(2)]
    length = sum(lengths(net).sum() for net in nets) / 1000
    found = sum(len(net.junctions) for net in nets)
    # A few find no room.
    assert 0.6 * 0.2 * length < found < 0.2 * length + 3 * (0.2 * length) ** 0.5


def test_branches_without_end_stop_at_the_density():
    options = changed(branching=5.0, crossing_chance=1.0, fusion_chance=0.0)
    total = lengths(grown_network(options, generator(13))).sum() / 1000
    assert total == pytest.approx(options.density * np.pi * 10**2, rel=0.2)


def test_fission_is_a_rate():
    net = grown_network(LONELY, generator(6))
    options = LONELY.model_copy(update={"fission": 0.5, "gap": 0.0})
    cuts = [divided(net, options, generator("cuts", i)).cuts for i in range(20)]
    wanted = 0.5 * lengths(net).sum() / 1000
    assert np.mean(cuts) == pytest.approx(wanted, abs=4 * (wanted / 20) ** 0.5)


def test_divided_tubes_are_apart():
    tube = np.stack([np.zeros(2001), 50.0 * np.arange(2001)], axis=1)
    net = Network([tube], [np.full(2001, 100.0)])
    options = changed(fission=0.1, gap=200.0)
    pieces = divided(net, options, generator(7))
    ends = [piece[[0, -1], 1] for piece in pieces.lines.lines()]
    assert len(ends) > 5
    assert len(set(pieces.lines.ids)) == len(ends)
    for a, b in itertools.pairwise(ends):
        # Centre lines end a radius before their walls: 200 + 2 * 100, in steps of 50.
        assert b[0] - a[1] >= 400 - 1e-9


def test_fusion_makes_one_of_many():
    def largest(fusion):
        net = grown_network(changed(fusion_chance=fusion, fission=0.0), generator(8))
        ids = divided(net, changed(fission=0.0), generator(9)).lines
        size = np.bincount(ids.ids, weights=ids.lengths())
        return size.max() / size.sum(), len(net.junctions)

    fused, joints = largest(1.0)
    alone, fewer = largest(0.0)
    assert fused > 2 * alone
    assert joints > fewer


def test_fission_and_loops_obey_euler():
    net = grown_network(changed(fusion_chance=1.0), generator(10))
    pieces = divided(net, changed(fission=0.2), generator(11))
    count = len(set(pieces.lines.ids))
    # Components = tubes - junctions + loops, and loops are not negative.
    assert count >= len(pieces.lines) - len(pieces.junctions)
    assert count < len(pieces.lines)
    assert set(pieces.lines.ids) == set(range(1, count + 1))


def test_radii_vary_as_asked():
    options = changed(radius_spread=0.2, density=1.0)
    nets = [grown_network(options, generator("radii", i)) for i in range(2)]
    logs = [np.log(r / options.radius) for net in nets for r in net.radii]
    every = np.concatenate(logs)
    assert every.std() == pytest.approx(0.2, rel=0.15)
    means = np.array([r.mean() for r in logs if len(r) > 60])
    assert means.std() == pytest.approx(0.2 / 2**0.5, rel=0.3)


def test_the_nucleus_is_empty():
    net = grown_network(changed(nucleus=0.5, fusion_chance=0.0), generator(12))
    distance = np.hypot(*np.concatenate(net.tubes).T)
    assert distance.min() >= 0.5 * 10_000


def test_steps_too_long_are_refused():
    with pytest.raises(ValidationError, match="`radius`"):
        Mitochondria(radius=30, step=50)
    with pytest.raises(ValidationError, match="tenth of `persistence`"):
        Mitochondria(persistence=0.5, step=100)
