"""Semantic filtering on synthetic sets, diffusion behind crops: in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks import houses, houses_grounds, houses_phantoms, houses_scores
from benchmarks.__main__ import AREAS
from benchmarks.houses_lab import House, Sizes
from benchmarks.laboratory import Laboratory

from phantomscope.images.imageset import ImageSet
from phantomscope.stages import sketching

TINY = Sizes(
    start=100, evaluations=1, sketches=4, draws=3, side=64, filter_steps=2,
    compose_steps=2, compose_side=64, tests=3, grounds=2, seeds=(0,),
    segment_steps=1, network="small", resamples=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def house(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> House:
    found = House(tmp_path_factory.mktemp("houses"), TINY)
    for name in ("prepared", "normalisation", "sketch", "model", "start"):
        setattr(found.lab, name, getattr(lab, name))
    found.folder.mkdir()
    return found


def test_draws_of_a_sketch_are_frames_in_which_nothing_moves(house: House):
    draws = houses_phantoms.make_draws(house)
    sketches = ImageSet.open(house.folder / "sketches")
    assert len(draws) == 12
    for _, table in draws.table.groupby("group"):
        first, *others = table["id"]
        assert list(table["frame"].astype(int)) == [0, 1, 2]
        assert table["limits"].nunique() == 1
        for other in others:
            assert np.array_equal(sketches.image(first), sketches.image(other))
            assert np.array_equal(draws.mask(first), draws.mask(other))
            assert not np.array_equal(draws.image(first), draws.image(other))


def test_nothing_is_trained_on_the_sketches_that_it_is_tested_on(house: House):
    houses_phantoms.make_draws(house)
    parts = houses_phantoms.filter_draws(house)["filter"]
    groups = [set(part.table["group"]) for part in parts]
    assert [len(group) for group in groups] == [2, 2]
    assert not groups[0] & groups[1]


def test_a_patch_replaces_what_is_brighter_and_nothing_else():
    rng = np.random.default_rng(0)
    scene = np.full((64, 64), 0.2, np.float32)
    clean = (scene + rng.normal(0, 0.01, scene.shape)).astype(np.float32)
    y, x = np.mgrid[:64, :64]
    blob = (y - 20) ** 2 + (x - 20) ** 2 < 49
    image = clean + np.float32(0.3) * blob
    found = houses_phantoms.patched(image, scene, 40, 10 / 255)
    assert np.abs(found[blob] - 0.2).max() < 0.01
    far = (y - 20) ** 2 + (x - 20) ** 2 > 400
    assert np.array_equal(found[far], image[far])
    # What is darker than the scene stays, and so does what is too small.
    darker = clean - np.float32(0.1) * blob
    assert np.array_equal(houses_phantoms.patched(darker, scene, 40, 10 / 255), darker)
    assert np.array_equal(houses_phantoms.patched(image, scene, 400, 10 / 255), image)
    spared = houses_phantoms.patched(image, scene, 40, 10 / 255, ~blob & (x > 40))
    assert np.array_equal(spared, image)


def test_light_of_phantoms_is_above_the_background():
    image, labels = np.full((8, 8), 0.1), np.zeros((8, 8), np.uint16)
    labels[:2] = 1
    image[5, 5:7] = 0.6
    one, none = image > 0.5, image < 0
    light = houses_phantoms.light_in(image, labels, [one, none])
    assert light == pytest.approx(0.5)
    assert houses_phantoms.heights(image + labels, labels) == pytest.approx([1.0])


def test_scores_are_compared_sketch_by_sketch():
    rows = [
        {"method": method, "sketch": sketch, "draw": draw, "objects": 4,
         "phantoms": phantoms, "vanished": 1, "lost": 0, "light": 2.0, "dice": 3.0,
         "phantom_light": 1.0}
        for method, factor in (("none", 2), ("filter", 1))
        for sketch in "ab"
        for draw, phantoms in ((0, factor), (1, 0 if sketch == "a" else 2 * factor))
    ]  # fmt: skip
    table = houses_scores.with_chosen(pd.DataFrame(rows), 0.15)
    ratio = houses_scores.changed(table, "filter", "phantoms")
    assert (ratio.value, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
    best = table[table["method"] == "best"].set_index("sketch")["phantoms"]
    assert best.to_dict() == {"a": 0, "b": 2}
    # 2 of 4 are too many for the check; of sketch b nothing is left.
    assert list(table[table["method"] == "dropped"]["sketch"]) == ["a"]
    assert houses_scores.sums(table, "dropped", ["objects"])["objects"].to_dict() == {
        "a": 4, "b": 0,
    }  # fmt: skip


def test_scores_of_backgrounds_are_paired_by_image():
    table = pd.DataFrame([
        {"arm": arm, "seed": seed, "id": name, "true_positives": 2 + (arm != "real"),
         "false_positives": 1, "false_negatives": 1, "psnr": 20.0 + (arm == "both")}
        for arm in houses_grounds.ARMS for seed in (0, 1) for name in "abc"
    ])  # fmt: skip
    found = houses_grounds.summary(table).set_index("backgrounds")
    assert found.loc["real", "f1"] == pytest.approx(2 / 3)
    assert found.loc["diffusion", "f1_ratio"] == pytest.approx(0.75 / (2 / 3))
    assert list(found["psnr_gain_low"]) == [0, 0, 1]


def test_the_whole_gives_rows_tables_and_pictures(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert AREAS["houses"] is houses.rows
    # Segmenters have tests of their own, and take seconds to start.
    monkeypatch.setattr(houses, "segmented_rows", lambda house, tables: [])
    found = {row.id: row for row in houses.rows_of(house, tmp_path)}
    for name in houses.SAID:
        row = found[f"houses.phantoms_{name}"]
        assert row.goal == "< 1"
        assert "4 sketches x 3 draws" in row.against
    for arm in ("diffusion", "both"):
        assert found[f"houses.f1_backgrounds_{arm}"].goal == ">= 1"
        assert np.isfinite(found[f"houses.psnr_backgrounds_{arm}"].value)
    for name in ("phantoms", "backgrounds"):
        assert (tmp_path / f"{name}.csv").exists()
        assert (tmp_path / f"{name}.png").stat().st_size < 300_000
    sets = {
        arm: ImageSet.open(house.folder / f"backgrounds/{arm}").ids
        for arm in houses_grounds.ARMS
    }
    assert sets["diffusion"] == ["made-1", "nuclei-train"]
    assert sets["both"] == ["made-1", "nuclei-train"]
    own = {
        arm: ImageSet.open(house.folder / f"backgrounds/{arm}").image("nuclei-train")
        for arm in sets
    }
    assert np.array_equal(own["both"], own["real"])
    assert not np.array_equal(own["diffusion"], own["real"])
    grounds = ImageSet.open(house.folder / "grounds")
    assert np.array_equal(own["diffusion"], grounds.image(grounds.ids[0]))


def test_sketches_are_not_drawn_again(house: House, monkeypatch: pytest.MonkeyPatch):
    houses_phantoms.make_draws(house)
    monkeypatch.setattr(sketching, "simulate", None)
    assert len(houses_phantoms.make_draws(house)) == 12


def test_sets_for_segmenters_hold_the_same_labels(house: House):
    draws = houses_phantoms.make_draws(house)
    houses_phantoms.write_sets(house, draws, ["none", "patched"])
    sets = [ImageSet.open(house.folder / f"sets/{m}") for m in ("none", "patched")]
    assert sets[0].ids == sets[1].ids
    assert len(sets[0]) == 4 * houses_phantoms.COMPARED
    for name in sets[0].ids:
        assert np.array_equal(sets[0].mask(name), sets[1].mask(name))
    first = draws.ids[0]
    assert np.array_equal(sets[0].image("series-000000-0"), draws.image(first))
