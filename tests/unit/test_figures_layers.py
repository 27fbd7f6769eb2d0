"""Figures of layers: what they show, and that they are written."""

import numpy as np
import pytest
from imageio.v3 import imread

from phantomscope.config.layers import Compose
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.compose import Compositor, pack_backgrounds, pack_crops
from phantomscope.tables.figures_layers import (
    plot_contact_sheet,
    plot_pairs,
    sheet_order,
)


@pytest.fixture
def crops(tmp_path):
    rng = generator("crops")
    with ImageSetWriter(tmp_path / "crops", {}) as writer:
        for number in range(15):
            image = rng.integers(0, 200, (18, 20)).astype(np.uint8)
            mask = np.zeros((18, 20), np.uint16)
            mask[4:14, 4:15] = 1
            writer.add(
                f"a-{number:04d}", image, mask, type="small" if number % 3 else "large",
                focus=(number * 7 % 15) / 15, parent="a",
            )  # fmt: skip
    return ImageSet.open(tmp_path / "crops")


def test_the_sheet_goes_from_blurred_to_sharp(crops):
    chosen = sheet_order(crops, 4)
    assert list(chosen) == ["large", "small"]
    for kind, ids in chosen.items():
        table = crops.table[crops.table["type"] == kind]
        focus = [crops.row(name)["focus"] for name in ids]
        assert focus == sorted(focus)
        assert (focus[0], focus[-1]) == (table["focus"].min(), table["focus"].max())
        assert len(ids) == 4


def test_what_is_dropped_is_crossed_out(crops, tmp_path):
    plot_contact_sheet(crops, tmp_path / "sheet.png")
    plot_contact_sheet(crops, tmp_path / "vetoed.png", frozenset({"a-0003"}))
    plain, vetoed = imread(tmp_path / "sheet.png"), imread(tmp_path / "vetoed.png")
    assert plain.shape == vetoed.shape
    differ = (plain != vetoed).reshape(*plain.shape[:2], -1).any(-1)
    assert 0 < differ.mean() < 0.03  # one crop only


def test_pairs_are_drawn(crops, tmp_path):
    options = Compose(size=48, targets=[1, 2], others=[1, 2])
    pack = pack_crops(
        [(crops.image(i) / 255, crops.mask(i) > 0) for i in crops.ids], options
    )
    ground = pack_backgrounds([(generator(1).random((60, 60)) * 0.1, None)])
    plot_pairs(Compositor(pack, pack, ground, options, 0), tmp_path / "pairs.png", 1)
    assert imread(tmp_path / "pairs.png").std() > 5
