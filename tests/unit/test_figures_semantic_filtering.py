"""Figures of Javer & Rittscher: which layers lie over which image."""

from dataclasses import replace

import numpy as np
import pytest
from tests.filtering import filter_config, layered, write_run, write_tested

from phantomscope.stages.results import write_config
from phantomscope.tables.figures_semantic_filtering import figure_4
from phantomscope.tables.paper import load_parts

CLASSES = ["large", "small"]


def turned(one):
    """Return a composed image of the same name, with other pixels."""
    image, kept = (np.swapaxes(layers, 1, 2) for layers in (one.image, one.kept))
    return replace(one, image=image, labels=one.labels.T, kept=kept)


@pytest.mark.parametrize("alike", [True, False])
def test_layers_lie_over_the_image_of_which_they_are(tmp_path, alike):
    config = filter_config(
        "layers", "nuclei", targets=CLASSES, methods=["layers"],
        appearance={"organism": "nuclei", "data_kind": "stand-in"},
    )  # fmt: skip
    images = layered("p", "q")
    others = {n: one if alike else turned(one) for n, one in images.items()}
    for kind, own in zip(CLASSES, (images, others), strict=True):
        write_tested(tmp_path / f"composed/{kind}/fold0/tests-all", config, own)
        write_run(tmp_path, config, "layers", [own], only=kind)
    write_config(config, resolved=tmp_path / "config.yaml")
    figure = figure_4(list(load_parts([tmp_path]).values()))
    columns = 4 if alike else 3  # image, layers, and the objects of each class
    lines = np.reshape(figure.axes, (-1, columns))
    # Tests of two classes have the same names, and a line of their own if they differ.
    assert len(lines) == (2 if alike else 4)
    for line in lines:
        image, layers = (axes.images[-1].get_array() for axes in line[:2])
        lit = np.asarray(image)
        lit = lit.reshape(*lit.shape[:2], -1).mean(-1)
        tinted = np.asarray(layers).any(-1)
        assert tinted.sum() >= 128
        assert not np.any(tinted & (lit == lit.min()))
