"""From pairs to a codec, to a diffusion model in its latent space, to predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.load import make_config
from phantomscope.config.papers import load_paper, parts_of
from phantomscope.config.translation import LATENT
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.codec import Codec, GroupPatches
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.pairs import from_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.codec import codec_training, coded_groups, train_codec
from phantomscope.stages.translated import evaluate_translation, join_scores
from phantomscope.stages.translation import open_pairs, train_translator, translate
from phantomscope.tables.cellresdm import latent_rows
from phantomscope.tables.paper import Part

CONFIG = {
    "network": {"preset": "small", "norm": "group"},
    "train": {"steps": 3, "batch_size": 2, "patch": 32, "warmup": 1, "device": "cpu",
              "precision": "fp32", "checkpoint_every": 2},
    "synthesise": {"tile": 64, "overlap": 0, "device": "cpu", "precision": "fp32",
                   "compile": "never"},
    "translate": {
        "methods": [LATENT],
        "boundaries": ["nuclei"],
        "plates": {"kind": "fields", "inputs": ["Brightfield"],
                   "stains": ["Mito", "DNA"], "fields": {"path": "."}},
        "latent": {"width": 4, "blocks": 1, "codes": 8, "steps": 4, "batch_size": 2,
                   "patch": 32,
                   "groups": [["Mito", "DNA"], ["DNA", "nuclei boundaries"]]},
        "overrides": {LATENT: {"process": {"timesteps": 2}}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All files of a small run, of images with odd sides."""
    folder = tmp_path_factory.mktemp("latent")
    config, pairs = make_config(CONFIG), folder / "pairs"
    rng = np.random.default_rng(0)
    with ImageSetWriter(pairs, {}) as writer:
        for n, split in enumerate(("train", "train", "test", "test")):
            pixels = rng.integers(0, 65535, (4, 45, 50), np.uint16)
            labels = np.zeros((45, 50), np.uint16)
            labels[10:20, 10:30] = 1
            writer.add(f"i{n}", pixels, labels, channels=4, split=split, group=f"g{n}")
    codec = folder / "codec.pt"
    train_codec(
        config, pairs=pairs, codec=codec, codec_metrics=folder / "codec.jsonl",
        state=folder / "codec.state",
    )  # fmt: skip
    train_translator(
        config, pairs=pairs, model=folder / "model.pt", metrics=folder / "model.jsonl",
        state=folder / "model.state", method=LATENT, codec=codec,
    )  # fmt: skip
    return config, folder


def predicted(config, folder, name, **changes):
    given = {"method": LATENT, "codec": folder / "codec.pt", **changes}
    translate(
        config, pairs=folder / "pairs", model=folder / "model.pt",
        translated=folder / name, seconds=folder / f"{name}.csv", **given,
    )  # fmt: skip
    return ImageSet.open(folder / name)


def test_the_codec_knows_its_groups_and_normalises(made):
    _, folder = made
    codec = Codec.load(folder / "codec.pt")
    assert codec.groups == [[0, 1], [1, 2]]
    assert codec.meta["steps"] == 4
    # The planes of brightfield are the same for both groups.
    assert codec.meta["learnt"] == [[0, 1], [1, 2], [3, 4]]
    pairs = open_pairs(make_config(CONFIG).of_method(LATENT), folder / "pairs", "train")
    latents = np.stack(
        [codec.encode_image(pairs.truth(n), 512, 0) for n in pairs.images.ids]
    )
    each = latents.reshape(2, 2, 3, -1).transpose(2, 0, 1, 3).reshape(3, -1)
    np.testing.assert_allclose(each.mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(each.std(axis=1), 1, atol=1e-3)
    lines = (folder / "codec.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]
    assert not (folder / "codec.state/unmeasured.pt").exists()


def test_without_brightfield_the_codec_learns_stains_alone(made):
    config, folder = made
    options = config.translate.latent
    found = open_pairs(config.of_method(LATENT), folder / "pairs", "train")
    alone = options.model_copy(update={"brightfield": False})
    assert coded_groups([[0, 1]], found, alone) == [[0, 1]]
    judged = options.model_copy(update={"adversarial": 0.1})
    assert codec_training(judged, config.train).clip == 0
    assert codec_training(options, config.train).clip == config.train.clip


def test_a_killed_codec_is_the_same(made, monkeypatch):
    config, folder = made
    where = {
        "pairs": folder / "pairs", "codec": folder / "again.pt",
        "codec_metrics": folder / "again.jsonl", "state": folder / "again",
    }  # fmt: skip
    whole = GroupPatches.batch

    def failing(self, step, size):
        if step == 3:
            raise RuntimeError("power cut")
        return whole(self, step, size)

    monkeypatch.setattr(GroupPatches, "batch", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        train_codec(config, **where)
    monkeypatch.setattr(GroupPatches, "batch", whole)
    assert not (folder / "again.pt").exists()
    train_codec(config, **where)
    (one, about), (two, same) = (
        load_checkpoint(folder / name) for name in ("codec.pt", "again.pt")
    )
    assert about == same
    for name, value in one["network"].items():
        assert value.equal(two["network"][name]), name


def test_the_model_has_a_network_for_each_group(made):
    _, folder = made
    model = DiffusionModel.load(folder / "model.pt")
    assert len(model.network.parts) == 2
    assert model.channels == model.conditions == 6
    assert model.meta["codec"] == Codec.load(folder / "codec.pt").fingerprint


def test_images_do_not_depend_on_shards(made):
    config, folder = made
    images = predicted(config, folder, "whole")
    assert images.ids == ["i2", "i3"]
    parts = make_config({**CONFIG, "translate": {**CONFIG["translate"], "shards": 2}})
    second = predicted(parts, folder, "second", shard=1)
    assert second.ids == ["i3"]
    assert images.channels("i3").shape == (3, 45, 50)
    assert np.array_equal(images.channels("i3"), second.channels("i3"))
    assert images.channels("i3").std() > 0
    first = predicted(parts, folder, "first")
    assert first.ids == ["i2"]
    pairs, joined = folder / "pairs", {}
    for name in ("whole", "first", "second"):
        scores = folder / f"scores-{name}"
        evaluate_translation(
            config, pairs=pairs, translated=folder / name, scores=scores
        )
    # The order of shards does not matter.
    for name, of in (("one", ["whole"]), ("two", ["second", "first"])):
        scores = [folder / f"scores-{part}" for part in of]
        join_scores(config, pairs=pairs, parts=scores, scores=folder / name)
        joined[name] = (folder / name / "pixels.csv").read_text()
    assert joined["one"] == joined["two"]
    assert joined["one"].count("\ni2,") == joined["one"].count("\ni3,") > 0
    with pytest.raises(PhantomscopeError, match="'i3' was not measured"):
        join_scores(
            config, pairs=pairs, parts=[folder / "scores-first"], scores=folder / "lack"
        )


def test_the_mean_of_predictions_is_kept(made):
    _, folder = made
    stored, took = {}, {}
    for count in (1, 3):
        options = {**CONFIG["translate"], "samples": 3, "averaged": count}
        name = f"mean{count}"
        config = make_config({**CONFIG, "translate": options})
        images = predicted(config, folder, name)
        stored[count] = from_stored(images.channels("i2"))
        assert images.row("i2")["averaged"] == count
        took[count] = pd.read_csv(folder / f"{name}.csv")["seconds"]
        evaluate_translation(
            config, pairs=folder / "pairs", translated=folder / name,
            scores=folder / f"scores-{name}",
        )  # fmt: skip
    (first, spread), (mean, same) = (np.split(one, 2) for one in stored.values())
    # The spread is that of all predictions, whatever is kept.
    np.testing.assert_array_equal(spread, same)
    # A mean of three lies within (3 - 1) / sqrt(3) standard deviations of each.
    assert np.all(np.abs(mean - first) <= 2 / 3**0.5 * (spread + 1) / 2 + 1e-3)
    assert np.abs(mean - first).max() > 0.01
    with pytest.raises(PhantomscopeError, match="is more than `samples`"):
        make_config({**CONFIG, "translate": {**CONFIG["translate"], "averaged": 2}})


def test_a_codec_must_be_given(made):
    config, folder = made
    with pytest.raises(PhantomscopeError, match="latent space of a codec"):
        predicted(config, folder, "none", codec=None)
    with pytest.raises(PhantomscopeError, match="no codec"):
        predicted(config, folder, "none", codec=folder / "model.pt")
    assert not (folder / "none").exists()


def test_table_3_has_the_spread_over_images_and_the_speed(tmp_path):
    """Means over stains are 3 and 5; boundaries do not count."""
    seconds = tmp_path / f"translated/{LATENT}/seed0/shard-000.seconds.csv"
    pixels = tmp_path / f"translation_scores/{LATENT}/seed0/pixels.csv"
    for path, text in (
        (seconds, "id,seconds\na,2\nb,4\n"),
        (pixels, "id,channel,mse\na,Mito,2\na,DNA,4\nb,Mito,5\nb,DNA,5\n"
                 "a,nuclei boundaries,900\n"),
    ):  # fmt: skip
        path.parent.mkdir(parents=True)
        path.write_text(text)
    paper = load_paper("cellresdm", {"scale": "smoke"}, "smoke")
    rows = latent_rows(Part(tmp_path, parts_of(paper, "smoke")[0].config))
    found = {row.id: row for row in rows}
    assert found["c101"].value == pytest.approx(2**0.5)
    assert found["c102"].value == pytest.approx(1 / 3)
    assert found["c101"].dataset == "cpg0000-jump-pilot/source_4/2020_11_04_CPJUMP1"
    assert set(found) == {"c101", "c102"}
