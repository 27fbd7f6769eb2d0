"""The shape of an organ, learnt from annotation and stored beside the sketch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.meristem_shape import ShapeModel, default_model
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages import sketching
from phantomscope.stages.organ import learn_organ

SHAPE = (20, 48, 64)
LABELLED = {"kind": "folder", "path": "images", "labels": "labels", "axes": "ZYX"}


def options(model="learnt", **simulate):
    cells = {"shape_model": model, "cell_diameter": 9, "membrane_radius": 1.0,
             "rounding_radius": 0.0}  # fmt: skip
    return {
        "source": LABELLED,
        "simulate": {"organism": "meristem", "size": SHAPE, "images": 1, "shards": 1,
                     "meristem": cells, **simulate},
    }  # fmt: skip


def dome(height, width):
    """An annotated organ with a cut base in the first plane: two cells."""
    z, y, x = np.indices(SHAPE)
    away = ((y - 24) / 20) ** 2 + ((x - 32) / width) ** 2
    inside = z < height * (1 - away)
    return np.where(inside, 1 + (x > 32), 0).astype(np.uint16)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three annotated organs in the training part, one in the test part."""
    root = tmp_path_factory.mktemp("organ")
    rng = np.random.default_rng(0)
    with ImageSetWriter(root / "prepared", {}) as writer:
        for n, (height, width) in enumerate(((10, 28), (14, 24), (18, 30), (19, 10))):
            labels = dome(height, width)
            image = rng.poisson(100 + 400 * (labels > 0)).astype(np.uint16)
            writer.add(f"v{n}", image, labels, split="test" if n == 3 else "train",
                       stratum="all")  # fmt: skip
    limits = {f"v{n}": (0.0, 700.0) for n in range(4)}
    Normalisation("dataset", "sqrt", limits, "uint16").save(root / "norm.json")
    return root


def fitted(prepared, folder, config, name="shape_model.npz"):
    sketching.fit_sketch(
        config, prepared=prepared / "prepared", normalisation=prepared / "norm.json",
        sketch=folder / "sketch.yaml", fit=folder / "fit.json",
        objects=folder / "objects.csv", shape=folder / name if name else None,
    )  # fmt: skip
    return folder / "sketch.yaml"


@pytest.fixture(scope="module")
def learnt(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnt")
    return fitted(prepared, folder, make_config(options()))


def test_the_model_is_learnt_from_the_training_part_alone(prepared, learnt):
    model = ShapeModel.load(learnt.with_name("shape_model.npz"))
    assert (model.specimens, model.origin) == (3, "base")
    assert len(model.variances) == 2
    radii = model.mean.max()
    assert 24 < radii < 33
    known = SketchParameters.load(learnt)
    assert known.organ is not None
    np.testing.assert_array_equal(known.organ.mean, model.mean)
    assert known.shape_model is not None
    assert known.shape_model.file == "shape_model.npz"


def test_sketches_have_the_learnt_shape(learnt, tmp_path):
    parameters, config = SketchParameters.load(learnt), make_config(options())
    one = simulate_sketch(parameters, config.simulate, 0, 0)
    again = simulate_sketch(SketchParameters.load(learnt), config.simulate, 0, 0)
    np.testing.assert_array_equal(one[1], again[1])
    plain = make_config(options("built_in")).simulate
    built_in = simulate_sketch(SketchParameters(types=parameters.types), plain, 0, 0)
    assert (one[1] != built_in[1]).mean() > 0.05
    sketching.simulate(config, sketch=learnt, sketches=tmp_path / "sketches", shard=0)
    images = ImageSet.open(tmp_path / "sketches")
    np.testing.assert_array_equal(images.mask(images.ids[0]), one[1])
    assert images.info["parameters"]["shape_model"]["sha256"]


def test_without_the_option_nothing_is_learnt(prepared, tmp_path):
    path = fitted(prepared, tmp_path, make_config(options("built_in")), name="")
    assert "shape_model" not in path.read_text()
    assert SketchParameters.load(path).organ is None


def test_the_released_components_are_an_option(prepared):
    config = make_config(options(variant="code"))
    code = learn_organ(config, prepared / "prepared")
    own = learn_organ(make_config(options()), prepared / "prepared")
    np.testing.assert_allclose(code.mean, own.mean)
    assert not np.allclose(code.variances, own.variances)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {**LABELLED, "labels": None}}, "needs `source.labels`"),
        ({"simulate": {"organism": "meristem", "size": SHAPE, "meristem":
                       {"organ": "block", "shape_model": "learnt"}}},
         "needs `organ: meristem`"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(PhantomscopeError, match=message):
        make_config({**options(), **changes})


def test_what_is_missing_is_said(prepared, learnt, tmp_path):
    config = make_config(options())
    with pytest.raises(PhantomscopeError, match="no place beside"):
        fitted(prepared, tmp_path, config, name="")
    bare = SketchParameters(types=[drawer_of("meristem").kind(config.simulate)])
    with pytest.raises(PhantomscopeError, match="name no shape model"):
        simulate_sketch(bare, config.simulate, 0, 0)
    copy = tmp_path / "sketch.yaml"
    copy.write_bytes(learnt.read_bytes())
    with pytest.raises(PhantomscopeError, match=r"shape_model\.npz"):
        SketchParameters.load(copy)
    default_model(100).save(tmp_path / "shape_model.npz")
    with pytest.raises(PhantomscopeError, match="not the shape model"):
        SketchParameters.load(copy)


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (None, {}, "annotated as a whole"),
        (dome(10, 28), {"annotated_planes": "3"}, "annotated as a whole"),
        (dome(0, 28), {}, r"empty \(v0, 1 of 1 annotated volumes\)"),
    ],
    ids=["none", "planes", "empty"],
)
def test_annotation_without_an_organ(labels, more, message, tmp_path):
    image = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    with ImageSetWriter(tmp_path / "prepared", {}) as writer:
        writer.add("v0", image, labels, split="train", stratum="all", **more)
    with pytest.raises(PhantomscopeError, match=message):
        learn_organ(make_config(options()), tmp_path / "prepared")


def test_the_report_says_that_annotation_had_a_part(tmp_path):
    from phantomscope.tables import headline

    config = make_config(options())
    assert any("learnt from the annotation" in line
               for line in headline.cautions(tmp_path, config, []))  # fmt: skip
    row = SimpleNamespace(metric="ap_0.50", seed="all", value=0.8, method="cellpose",
                          condition="synthetic", ci_low=0.7, ci_high=0.9,
                          data_kind="real")  # fmt: skip
    assert "without a single" in headline.headline([row])
    assert "without a single" not in headline.headline([row], annotated_shape=True)
