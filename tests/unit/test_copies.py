"""The table of nearest patches tells copies, and pictures lay them over each other."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from phantomscope.config.analysis import Audit
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.stages.realism import look_for_copies
from phantomscope.tables.copies import Pairs, draw_copies, overlay
from phantomscope.tables.headline import copying
from phantomscope.tables.style import canvas

PATCH = Audit().patch


def grouped(held_out):
    return [(image, f"g{n}") for n, image in enumerate(held_out)]


def images(count, seed, side=2 * PATCH):
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    found = np.exp(3 * ndimage.gaussian_filter(noise, (0, 2, 2)))
    return list(found.astype(np.float32))


def test_the_stage_flags_a_copied_image(tmp_path):
    real, held_out, synthetic = images(3, 0), images(2, 1), images(2, 2)
    # A patch of the stage's grid, turned.
    synthetic[0][:PATCH, :PATCH] = np.rot90(real[1][24 : 24 + PATCH, :PATCH])
    look_for_copies(
        real, synthetic, grouped(held_out), Audit(), 0, tmp_path / "memorisation.csv",
        tmp_path / "pairs",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "memorisation.csv")
    flagged = table.loc[table["flagged"].astype(str) == "True", "id"]
    assert list(flagged) == ["synthetic-000"]
    assert list(table["kind"].value_counts()) == [8, 8]
    assert table["gap"].notna().sum() == 8
    share, sentence = copying(tmp_path)
    assert share > 0
    assert "Flagged as copies: 1 of 8" in sentence
    pairs = ImageSet.open(tmp_path / "pairs")
    assert len(pairs.ids) == 12
    assert_allclose(pairs.image("pair-00-patch"), pairs.image("pair-00-sample"))


def test_all_patches_of_another_size_can_be_looked_at(tmp_path):
    options = Audit(patch=128, overlap=0.25, training=None, samples=3, pairs=3)
    real, held_out, synthetic = images(2, 0, 224), images(3, 1), images(5, 2)
    synthetic[4][:] = real[1][96:, :128]
    look_for_copies(real, synthetic, grouped(held_out), options, 0,
                    tmp_path / "memorisation.csv", tmp_path / "pairs")  # fmt: skip
    table = pd.read_csv(tmp_path / "memorisation.csv")
    assert set(table["side"]) == {128}
    assert set(table["training_patches"]) == {8}
    assert list(table["kind"].value_counts()[["synthetic", "held_out"]]) == [3, 3]
    assert list(table["group"].dropna()) == ["g0", "g1", "g2"]
    assert (table["score"] >= table["score_zero_lag"] - 1e-5).all()
    assert table["nearer"].notna().sum() == 3
    pairs = ImageSet.open(tmp_path / "pairs")
    assert len(pairs.ids) == 6
    assert set(pairs.table["sample"]) == {f"synthetic-{n:03d}" for n in range(3)}


@pytest.mark.parametrize("held_out", [[], [np.zeros((PATCH, PATCH), np.float32)]])
def test_without_a_baseline_nothing_is_judged(tmp_path, held_out):
    place = tmp_path / "memorisation.csv"
    look_for_copies(images(2, 0), images(1, 1), grouped(held_out), Audit(), 0, place,
                    tmp_path / "pairs")  # fmt: skip
    table = pd.read_csv(place)
    assert table["flagged"].isna().all()
    assert (table["kind"] == "synthetic").sum() == 4


def test_overlays_are_white_or_yellow_where_both_are_bright():
    square = np.zeros((8, 8))
    square[2:6, 2:6] = 3
    assert_allclose(overlay(square, square + 1)[3, 3], 1)
    assert_allclose(overlay(square, square, red=True)[3, 3], [1, 1, 0])
    assert_allclose(overlay(square, np.zeros((8, 8)))[3, 3], [1, 0, 1])


def test_each_sample_is_drawn(tmp_path):
    samples, patches = images(7, 3, 32), images(7, 4, 32)
    flags = [False] * 6 + [True]
    figure = canvas(4)
    pairs = Pairs(samples, patches, list(np.linspace(0, 1, 7)), flags)
    draw_copies(figure, pairs, columns=4)
    shown = [axes for axes in figure.axes if axes.images]
    # The nearest first, which is the one that is framed.
    assert [axes.get_title() for axes in shown][:2] == ["1.00", "0.83"]
    assert [axes.spines["left"].get_visible() for axes in shown] == [True] + [False] * 6
    with pytest.raises(PhantomscopeError, match="7 samples come with 6 patches"):
        Pairs(samples, patches[:6], [0.0] * 7, flags)
