"""Flows of cells against closed forms, the masks that come out, and their patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phantomscope.downstream import flow_masks, flows
from phantomscope.downstream.examples import Example, whole_images
from phantomscope.downstream.flow_patches import FlowPatches, to_unit, unit_limits
from phantomscope.engine.patches import dihedral
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.instance import dice_per_object

CENTRES = ((7, 10, 10), (8, 12, 26), (8, 28, 24))


def balls(shape=(16, 40, 40), centres=CENTRES, radii=(5, 8, 8)):
    labels = np.zeros(shape, np.uint16)
    place = np.indices(shape)
    for number, centre in enumerate(centres, 1):
        away = [
            ((axis - c) / r) ** 2
            for axis, c, r in zip(place, centre, radii, strict=True)
        ]
        labels[sum(away) < 1] = number
    return labels


def volume_set(folder, labels, **columns):
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number, label in enumerate(labels):
            image = np.random.default_rng(number).poisson(np.where(label > 0, 900, 100))
            writer.add(f"v{number}", image.astype(np.uint16), label, **columns)
    return ImageSet.open(folder)


def patches_of(examples, patch=(8, 16, 16), **options):
    chance = np.full(len(examples), 1 / len(examples))
    return FlowPatches(examples, patch, 5, chance=chance, **options)


def test_objects_are_measured():
    table = flows.ObjectTable.of(5 * balls(radii=(4, 6, 8)))
    assert table.numbers.tolist() == [5, 10, 15]
    np.testing.assert_allclose(table.centres, CENTRES)
    assert (table.stop - table.first).tolist() == [[7, 11, 15]] * 3
    # From the centre to the side that is nearer: half a box, on a grid.
    np.testing.assert_allclose(table.scales, [[1, 5 / 3, 7 / 3]] * 3)


def test_tanh_flows_are_those_of_the_formula():
    labels = balls()
    found = flows.tanh_flows(labels)
    assert found.shape == (3, 16, 40, 40)
    assert not found[:, labels == 0].any()
    # A ball of the radius 8 has the half width 7 on the grid.
    assert found[2, 7, 10, 13] == pytest.approx(np.tanh(3 / (7 / 3)))
    assert found[1, 7, 6, 10] == pytest.approx(np.tanh(-4 / (7 / 3)))
    assert found[0, 9, 10, 10] == pytest.approx(np.tanh(2 / (4 / 3)))
    assert (found[:, 7, 10, 10] == 0).all()


def test_flows_of_a_part_are_those_of_the_whole_cells():
    labels = balls()
    table, whole = flows.ObjectTable.of(labels), flows.tanh_flows(labels)
    index = [np.arange(3, 9), np.arange(4, 20), np.arange(8, 30)]
    part = flows.tanh_flows(labels[np.ix_(*index)], table, index)
    np.testing.assert_array_equal(part, whole[np.ix_(range(3), *index)])


@pytest.mark.parametrize("element", range(8))
def test_flows_turn_with_their_image(element):
    labels = balls()
    turned = flows.turned_flows(flows.tanh_flows(labels), element)
    expected = flows.tanh_flows(np.ascontiguousarray(dihedral(labels, element)))
    np.testing.assert_allclose(turned, expected, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_diffusion_flows_are_unit_vectors_away_from_the_centre(dims):
    labels = balls() if dims == 3 else balls()[8]
    found = flows.diffusion_flows(labels)
    inside = labels > 0
    length = np.sqrt((found**2).sum(axis=0))
    assert not length[~inside].any()
    assert np.mean(np.abs(length[inside] - 1) < 1e-3) > 0.95
    along = (found * flows.tanh_flows(labels)).sum(axis=0)[inside]
    assert np.mean(along > 0) > 0.95


@pytest.mark.parametrize("make", [flows.tanh_flows, flows.diffusion_flows])
def test_cellpose_finds_the_cells_of_perfect_flows(make):
    labels = balls()
    found = flow_masks.cellpose_masks(
        make(labels), (labels > 0).astype(np.float32), min_size=15,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert found.dtype == np.uint16
    assert dice_per_object(labels, found).min() > 0.99
    assert found.max() == 3


def test_euler_steps_find_the_cells_of_perfect_flows():
    labels = balls()
    found = flow_masks.euler_masks(
        flows.tanh_flows(labels), (labels > 0).astype(np.float32)
    )
    # Smoothed flows carry along what lies within two voxels of a cell, as published.
    assert found.max() == 3
    assert dice_per_object(labels, found).min() > 0.5


def test_euler_steps_drop_what_is_no_cell():
    labels = balls()
    perfect, foreground = flows.tanh_flows(labels), (labels > 0).astype(np.float32)
    foreground[labels == 2] = 0
    assert flow_masks.euler_masks(perfect, foreground).max() == 2
    assert flow_masks.euler_masks(perfect, foreground, largest=10).max() == 0
    assert flow_masks.euler_masks(0 * perfect, 0 * foreground).max() == 0


def test_percentiles_become_zero_and_one():
    image = np.arange(101, dtype=np.uint8).reshape(1, 101)
    limits = unit_limits(image)
    assert limits == (1, 99)
    assert to_unit(image, limits)[0, [1, 50, 99]].tolist() == [0, 0.5, 1]
    assert not to_unit(np.full((3, 3), 7), unit_limits(np.full((3, 3), 7))).any()


def test_patches_depend_on_the_step_alone(tmp_path):
    examples = whole_images(volume_set(tmp_path / "s", [balls()] * 2), "annotated")
    once, again = patches_of(examples), patches_of(examples)
    for step in (3, 0):
        batch = once.batch(step, 3)
        assert (batch.shape, batch.dtype) == ((3, 5, 8, 16, 16), np.float32)
        np.testing.assert_array_equal(batch, again.batch(step, 3))
    assert not np.array_equal(once.batch(0, 3), once.batch(1, 3))


def test_patches_read_by_planes_are_those_in_memory(tmp_path):
    whole = whole_images(volume_set(tmp_path / "s", [balls()]), "annotated")
    box = (slice(2, 14), slice(0, 30), slice(5, 40))
    for examples in (whole, [Example(whole[0].images, "v0", "annotated", box)]):
        kept, read = patches_of(examples), patches_of(examples, memory=0)
        for step in range(3):
            np.testing.assert_array_equal(kept.batch(step, 2), read.batch(step, 2))


def test_patches_show_image_foreground_and_flows(tmp_path):
    labels = balls()
    images = volume_set(tmp_path / "s", [labels])
    patches = patches_of(whole_images(images, "annotated"), labels.shape, augment=False)
    image, foreground, *found = patches.batch(0, 1)[0]
    raw = images.image("v0")
    np.testing.assert_allclose(image, to_unit(raw, unit_limits(raw)))
    np.testing.assert_array_equal(foreground, labels > 0)
    np.testing.assert_array_equal(np.stack(found), flows.tanh_flows(labels))


def test_flows_beyond_an_edge_are_mirrored(tmp_path):
    labels = balls((6, 24, 24), ((3, 12, 12),), (3, 8, 8))
    images = volume_set(tmp_path / "s", [labels])
    patches = patches_of(whole_images(images, "annotated"), (16, 24, 24), augment=False)
    _, foreground, *found = patches.batch(0, 1)[0]
    # Planes 0 to 5, then 4 down to 1, and 0 up again.
    np.testing.assert_array_equal(foreground[6], labels[4] > 0)
    np.testing.assert_array_equal(found[0][4], -found[0][6])
    np.testing.assert_array_equal(found[1][4], found[1][6])
    assert found[0][4].any()


def test_patches_lie_on_objects(tmp_path):
    labels = balls((16, 120, 120), ((8, 60, 60),), (5, 8, 8))
    examples = whole_images(volume_set(tmp_path / "s", [labels]), "annotated")
    seen = [
        patches_of(examples, on_objects=share).batch(0, 12)[:, 1].any(axis=(1, 2, 3))
        for share in (0, 1)
    ]
    assert seen[1].all()
    assert seen[0].mean() < 0.5
