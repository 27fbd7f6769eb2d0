"""The stages of semantic filtering: what cannot be is told."""

import shutil

import numpy as np
import pandas as pd
import pytest
from tests.cultures import (
    SIDE,
    compose,
    config,
    culture,
    find,
    train,
    train_both,
    write_cultures,
)

from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import filtering


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_cultures(tmp_path_factory.mktemp("filtering"))


@pytest.fixture(scope="module")
def trained(made):
    return train_both(made)


def test_unknown_targets(made, tmp_path):
    with pytest.raises(PhantomscopeError, match="no target 'larg'") as caught:
        train(config(), made, tmp_path, target="larg")
    assert "did you mean `large`" in caught.value.fix
    options = config(filter={"targets": ["lage"]})
    with pytest.raises(PhantomscopeError, match="class 'lage'") as caught:
        train(options, made, tmp_path, target="lage")
    assert "did you mean `large`" in caught.value.fix


def test_a_side_without_targets(made, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(made / "crops", root / "crops")
    manifest = root / "crops/manifest.csv"
    table = pd.read_csv(manifest)
    of_test = table["split"] == "test"
    table.loc[of_test, "type"] = "small"
    table.to_csv(manifest, index=False)
    shutil.copytree(made / "backgrounds", root / "backgrounds")
    with pytest.raises(PhantomscopeError, match="no crop of these 2 images"):
        compose(config(), root, tmp_path / "tests", "tests")


def test_one_class_alone(made, tmp_path):
    options = config(filter={"crops": {"min_area": 5}, "targets": ["object"]})
    filtering.cut_crops(
        options, prepared=made / "prepared", crops=tmp_path / "crops",
        backgrounds=tmp_path / "backgrounds", sheet=tmp_path / "sheet.png",
    )  # fmt: skip
    with pytest.raises(PhantomscopeError, match="nothing to tell it from"):
        compose(options, tmp_path, tmp_path / "tests", "tests", target="object")


def test_a_veto_of_no_crop(made, tmp_path):
    veto = tmp_path / "veto.csv"
    veto.write_text("id\ni0-000\n")
    options = config(filter={"veto": str(veto)})
    with pytest.raises(PhantomscopeError, match="there is no crop 'i0-000'"):
        train(options, made, tmp_path)
    veto.write_text("id\ni0-0000\n")
    compose(options, made, tmp_path / "taught", "taught")
    table = pd.read_csv(tmp_path / "taught/objects.csv")
    assert "i0-0000" not in set(table["crop"])


def test_crops_of_other_images(made, tmp_path):
    with ImageSetWriter(tmp_path / "prepared", {"source": "test"}) as writer:
        writer.add("i0", *culture(9), split="train")
    with pytest.raises(PhantomscopeError, match="cut out of other images"):
        train(config(), made, tmp_path, prepared=tmp_path / "prepared")


def test_models_of_another_kind(made, trained, tmp_path):
    for method, model, text in (
        ("filter", trained["layers"], "its method is 'layers'"),
        ("filter", None, "needs a trained model"),
        ("stardist", trained["filter"], "no method that is trained here"),
    ):
        with pytest.raises(PhantomscopeError, match=text):
            find(config(), made, tmp_path / "found", model, method)
    options = config(filter={"compose": {"share": "scene", "size": SIDE}})
    with pytest.raises(PhantomscopeError, match="its share is 'target'"):
        find(options, made, tmp_path / "found", trained["filter"])


def test_start_states_of_other_channels(trained):
    model = DiffusionModel.load(trained["layers"])
    sampler = Sampler(model, config().synthesise, 0)
    with pytest.raises(PhantomscopeError, match="start from 3 channels, 1 are"):
        sampler.unconditional((32, 32), "a", np.zeros((1, 32, 32), np.float32))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"compose": {"limits": [0, 2]}}, "`compose.limits`"),
        ({"objects": {"rule": "removed"}}, "`objects.rule: removed`"),
    ],
)
def test_options_that_do_not_fit(values, text):
    with pytest.raises(PhantomscopeError, match=text):
        config(filter=values)


def test_sides_that_do_not_fit_the_network(made, tmp_path):
    options = config(filter={"compose": {"size": 36}})
    with pytest.raises(PhantomscopeError) as caught:
        train(options, made, tmp_path)
    assert caught.value.where == "filter.compose.size"


@pytest.mark.parametrize(
    ("section", "values"),
    [("network", {"preset": "small", "noise_channel": True}),
     ("train", {"adversarial": 0.1}), ("train", {"weighting": "bound"})],
)  # fmt: skip
def test_options_that_training_would_not_heed(made, tmp_path, section, values):
    options = config(**{section: values})
    with pytest.raises(PhantomscopeError, match="of no use") as caught:
        train(options, made, tmp_path)
    assert caught.value.where == f"{section}.{list(values)[-1]}"


def test_images_of_several_channels(tmp_path):
    with ImageSetWriter(tmp_path / "prepared", {"source": "test"}) as writer:
        writer.add("a", np.zeros((3, 32, 32), np.uint8), channels=3)
    with pytest.raises(PhantomscopeError, match="has 3 channels"):
        filtering.cut_crops(
            config(), prepared=tmp_path / "prepared", crops=tmp_path / "crops",
            backgrounds=tmp_path / "backgrounds", sheet=tmp_path / "sheet.png",
        )  # fmt: skip


def test_uses_and_inputs_that_are_missing(made, tmp_path):
    with pytest.raises(PhantomscopeError, match="`tests` or are `taught`"):
        compose(config(), made, tmp_path / "set", "validation")
    with pytest.raises(PhantomscopeError, match="need crops and backgrounds"):
        train(config(), made, tmp_path, crops=None)
