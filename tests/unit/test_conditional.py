"""Models that see a sketch: pseudo-sketches, training, synthesis."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from phantomscope.config.load import make_config
from phantomscope.config.simulation import Simulate
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.objective import Denoising
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.parameters import SketchType
from phantomscope.simulate.pseudo import pseudo_sketch, slow_background
from phantomscope.simulate.sketch import draw_sketch
from phantomscope.stages import data, diffusion, pseudo, sketching, synthesis

KIND = SketchType.model_validate({
    "name": "a", "radius": [8, 9, 10, 11, 12, 13, 14], "clustering": 0.0,
    "elongation": [1, 1.1, 1.2, 1.3, 1.4, 1.6, 2], "edge": 1.5,
    "intensity": [0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8], "density": [500.0] * 7,
    "overlap": 0.0, "background": {"level": 0.1},
})  # fmt: skip
FLAT = Simulate(nucleoli=(0, 0))


def drawn():
    return draw_sketch(KIND, FLAT, (200, 220), generator(3, "test"))


# Pseudo-sketches


def test_the_pseudo_sketch_of_a_sketch_is_that_sketch():
    sketch, labels = drawn()
    assert labels.max() > 10
    found = pseudo_sketch(sketch, labels, KIND.edge, KIND.radius[3])
    error = np.abs(found - sketch)
    assert np.median(error) < 0.003
    # Small objects lose light to their blurred edges, which is not given back.
    assert np.quantile(error, 0.99) < 0.08
    assert abs(found.mean() - sketch.mean()) < 0.006


def test_the_pseudo_sketch_has_no_noise_and_even_objects():
    sketch, labels = drawn()
    noisy = sketch + 0.03 * generator(4, "noise").standard_normal(sketch.shape)
    found = pseudo_sketch(noisy, labels, 0.0, KIND.radius[3])
    clean = pseudo_sketch(sketch, labels, 0.0, KIND.radius[3])
    assert np.abs(found - clean).max() < 0.03
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    assert np.ptp(found[labels == largest]) < 0.02


def test_the_background_follows_slow_changes_also_below_objects():
    slope = np.tile(np.linspace(0.1, 0.3, 200), (200, 1))
    labels = np.zeros((200, 200), int)
    labels[80:110, 80:110] = 1
    found = slow_background(slope + (labels > 0), labels, 20.0)
    inner = (slice(40, -40),) * 2
    assert np.abs(found - slope)[inner].max() < 0.02


@pytest.mark.parametrize("value", [0, 1])
def test_an_image_without_objects_or_full_of_them(value):
    labels = np.full((40, 50), value)
    found = pseudo_sketch(np.full((40, 50), 0.2), labels, 1.0, 5.0)
    assert found.dtype == np.float32
    assert np.allclose(found, 0.2)


def test_what_is_darker_than_its_surroundings_is_no_hole():
    labels = np.zeros((60, 60), int)
    labels[20:40, 20:40] = 1
    image = 0.5 - 0.4 * (labels > 0)
    assert pseudo_sketch(image, labels, 1.0, 10.0).min() > 0.45


# Patches and objective


def test_condition_and_image_are_cut_and_turned_alike(tmp_path):
    rng = np.random.default_rng(0)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        for name, shape in (("large", (60, 70)), ("small", (20, 20))):
            writer.add(name, rng.integers(0, 200, shape).astype(np.uint8))
    images = ImageSet.open(tmp_path / "set")
    scale = Normalisation(
        "dataset", "linear", dict.fromkeys(images.ids, (0.0, 200.0)), "uint8"
    )

    def condition(identifier):
        seen = scale.forward(images.image(identifier), identifier)
        return np.stack([seen, -seen])

    source = PatchSource(images, scale, (32, 32), 5, condition=condition)
    plain = PatchSource(images, scale, (32, 32), 5)
    for step in range(3):
        found = source.batch(step, 6)
        assert found.shape == (6, 3, 32, 32)
        assert np.array_equal(found[:, :1], plain.batch(step, 6))
        assert np.array_equal(found[:, 1], found[:, 0])
        assert np.array_equal(found[:, 2], -found[:, 0])


@pytest.mark.parametrize("noise_channel", [False, True])
def test_the_network_sees_the_condition_as_it_is(noise_channel):
    process = Process.gaussian(cosine_alpha_bar(1000), "v")
    x0 = torch.randn(4, 1, 8, 8)
    seen = torch.randn(4, 2, 8, 8)
    plain = Denoising(process, noise_channel)
    sees = Denoising(process, noise_channel, conditions=2)
    wanted = plain.draw(x0, torch.Generator().manual_seed(1))
    found = sees.draw(torch.cat([x0, seen], 1), torch.Generator().manual_seed(1))
    channels = 1 + noise_channel
    assert torch.equal(found[0][:, :channels], wanted[0])
    assert torch.equal(found[0][:, channels:], seen)
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(found[2], wanted[2])


# Stages


@pytest.fixture(scope="module")
def trained(lab, tmp_path_factory):
    """A small conditional model of 80 steps on the packaged images."""
    folder = tmp_path_factory.mktemp("conditional")
    content = lab.config.model_dump(mode="json")
    content["condition"] = {"kind": "sketch"}
    content["process"]["prediction"] = "v"
    content["train"] |= {"steps": 80}
    config = make_config(content)
    inputs = {"prepared": lab.prepared, "normalisation": lab.normalisation}
    pseudo.pseudo_sketches(
        config, **inputs, sketch=lab.sketch, pseudo=folder / "pseudo"
    )
    diffusion.train_diffusion(
        config, **inputs, pseudo=folder / "pseudo", model=folder / "model.pt",
        metrics=folder / "metrics.jsonl", state=folder / "state",
    )  # fmt: skip
    return config, inputs, folder


def test_pseudo_sketches_of_the_packaged_images(trained, lab):
    _, _, folder = trained
    found, images = ImageSet.open(folder / "pseudo"), data.unannotated(lab.prepared)
    found.verify()
    assert found.ids == images.ids
    scale = Normalisation.load(lab.normalisation)
    for identifier in found.ids:
        sketch, labels = found.image(identifier), found.mask(identifier)
        real = scale.to_unit(images.image(identifier), identifier)
        assert labels.max() > 3
        smooth = ndimage.gaussian_filter(real, 2)
        assert np.corrcoef(smooth.ravel(), sketch.ravel())[0, 1] > 0.8


def test_synthesis_shows_the_model_its_sketch(trained, lab):
    config, inputs, folder = trained
    assert DiffusionModel.load(folder / "model.pt").conditions == 1
    sketching.simulate(config, sketch=lab.sketch, sketches=folder / "sketches")
    images = {}
    for t in (100, 1000):
        write_json(folder / "start.json", {"value": t})
        out = folder / f"synthetic-{t}"
        synthesis.synthesise(
            config, **inputs, model=folder / "model.pt", start=folder / "start.json",
            sketches=folder / "sketches", synthetic=out,
        )  # fmt: skip
        found = ImageSet.open(out)
        images[t] = found.image(found.ids[0])
    sketches = ImageSet.open(folder / "sketches")
    own, other = (
        np.corrcoef(images[1000].ravel(), sketches.image(i).ravel())[0, 1]
        for i in sketches.ids[:2]
    )
    # Almost pure noise would know nothing of the sketch, were it not seen.
    assert own > max(other, 0) + 0.15


def test_the_times_are_tried_with_the_sketch_in_sight(trained, lab):
    config, inputs, folder = trained
    content = config.model_dump(mode="json")
    content["start"] |= {"value": "auto", "candidates": [200, 900], "images": 1}
    diffusion.choose_start(
        make_config(content), **inputs, sketch=lab.sketch, model=folder / "model.pt",
        start=folder / "chosen.json", table=folder / "t.csv",
        start_images=folder / "start",
    )  # fmt: skip
    assert json.loads((folder / "chosen.json").read_text())["value"] in (200, 900)


def test_a_student_of_a_model_that_sees_sketches(trained, lab):
    config, inputs, folder = trained
    content = config.model_dump(mode="json")
    content["distil"] |= {"steps": 2, "teacher_steps": 2, "train_steps": 2,
                          "batch_size": 2, "patch": 16}  # fmt: skip
    write_json(folder / "s.json", {"value": 500})
    diffusion.distil(
        make_config(content), normalisation=inputs["normalisation"], sketch=lab.sketch,
        model=folder / "model.pt", start=folder / "s.json",
        student=folder / "student.pt", student_metrics=folder / "s.jsonl",
        state=folder / "student",
    )  # fmt: skip
    student = DiffusionModel.load(folder / "student.pt")
    assert student.conditions == 1
    assert load_checkpoint(folder / "student.pt")[1]["distilled"]["steps"] == 2


def test_pseudo_sketches_of_other_images_are_refused(trained, lab, tmp_path):
    config, inputs, _ = trained
    with ImageSetWriter(tmp_path / "others", {}) as writer:
        writer.add("x", np.zeros((64, 64), np.float32))
    for given, words in ((tmp_path / "others", "there is no image"), (None, "pseudo")):
        with pytest.raises(PhantomscopeError, match=words):
            diffusion.train_diffusion(
                config, **inputs, pseudo=given, model=tmp_path / "model.pt",
                metrics=tmp_path / "m.jsonl", state=tmp_path / "state",
            )  # fmt: skip


def test_a_trained_segmenter_makes_the_pseudo_sketches(trained, lab, tmp_path):
    config, inputs, folder = trained
    tool = tmp_path / "otsu_watershed"
    tool.mkdir()
    write_json(tool / "training.json", {"tool": "otsu_watershed"})
    write_json(tool / "parameters.json", {"sigma": 1.0})
    pseudo.pseudo_sketches(
        config, **inputs, sketch=lab.sketch, pseudo=tmp_path / "pseudo",
        segmenter=tool,
    )  # fmt: skip
    found, before = ImageSet.open(tmp_path / "pseudo"), ImageSet.open(folder / "pseudo")
    assert found.info["segmenter"] == str(tool)
    assert found.ids == before.ids
    assert list(found.table["sha256"]) != list(before.table["sha256"])
    write_json(tool / "training.json", {"tool": "scissors"})
    with pytest.raises(PhantomscopeError, match="scissors"):
        pseudo.pseudo_sketches(
            config, **inputs, sketch=lab.sketch, pseudo=tmp_path / "no",
            segmenter=tool,
        )  # fmt: skip
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"segmenter": "results/x/models/stardist"}, "of no use"),
        ({"kind": "sketch", "segmenter": "results/demo/models/a"}, "of its own"),
        ({"kind": "picture"}, "condition.kind"),
    ],
)
def test_bad_conditions(options, words):
    with pytest.raises(PhantomscopeError, match=words):
        make_config({"condition": options})
