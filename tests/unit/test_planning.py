"""Work of a config, against the code that does it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.runs import PACKAGE, UNLABELLED, planned

from phantomscope.config.diffusion import STRIDES, Network
from phantomscope.config.load import load_config, make_config
from phantomscope.config.model import Config
from phantomscope.config.papers import PAPERS
from phantomscope.engine.networks import network_spec
from phantomscope.errors import PhantomscopeError
from phantomscope.images.tiles import even_tile, tile_grid
from phantomscope.planning.rates import packaged_rates
from phantomscope.planning.sharding import (
    network_pixels,
    resolved,
    shard_count,
    tiled_length,
)
from phantomscope.planning.sources import Images, source_images, split_images
from phantomscope.planning.work import Work, works

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path for path in (ROOT / "config").glob("*/*.yaml")
    if path.parent.name not in PAPERS
)  # fmt: skip
HUNDRED = Images(Counter({(512, 512): 100}), "uint16", 100)
# As Snakemake's dry run counts them.
DEMO = Counter(
    write_config=1, acquire=1, prepare=1, fit_sketch=1, simulate=2, photograph=2,
    train_diffusion=1, choose_start=1, synthesise=2, check=2, gather=2,
    measure_realism=1, measure_populations=1, train_segmenter=7, predict=7,
    predict_generalist=1, evaluate=8, tabulate=1, draw_figures=1, draw_segmentations=1,
    report=1,
)  # fmt: skip


def jobs(work: list[Work]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in work:
        found[one.rule] += one.jobs
    return found


# Work


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_jobs_of_shipped_configs(path: Path) -> None:
    config = load_config(path)
    segment, shards = config.segment, shard_count(config)
    trained = len(segment.tools) * len(config.arms) * len(segment.seeds) + 1
    expected = DEMO | Counter(
        simulate=shards, photograph=shards, synthesise=shards, check=shards,
        train_segmenter=trained, predict=trained,
        evaluate=trained + segment.generalist,
        pseudo_sketches=int(config.condition.kind == "sketch"),
    )  # fmt: skip
    assert jobs(planned(config, HUNDRED)) == +expected


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"source": UNLABELLED},
         {"train_segmenter": 4, "predict": 4, "predict_generalist": 0, "evaluate": 0,
          "draw_segmentations": 0}),
        ({"source": {**UNLABELLED, "labels": "my labels"},
          "segment": {"seeds": [0, 1, 2], "tools": ["stardist"]}},
         {"train_segmenter": 10, "predict": 10, "evaluate": 11}),
        ({"simulate": {"shards": 5}},
         {"simulate": 5, "photograph": 5, "synthesise": 5, "check": 5}),
        ({"segment": {"generalist": False}}, {"predict_generalist": 0, "evaluate": 7}),
        ({"distil": {"steps": 2}}, {"distil": 1}),
        ({"condition": {"kind": "sketch"}}, {"pseudo_sketches": 1}),
        ({"segment": {"arms": ["synthetic"]}},
         {"train_segmenter": 3, "predict": 3, "evaluate": 4}),
        ({"source": UNLABELLED, "segment": {"tools": []},
          "restore": {"arms": ["mathematical", "diffusion"], "seeds": [0, 1]}},
         {**dict.fromkeys(("train_segmenter", "predict", "predict_generalist",
                           "evaluate", "draw_segmentations"), 0),
          "make_pairs": 3, "train_restorer": 4, "restore": 4,
          "evaluate_restoration": 5, "tabulate_restoration": 1,
          "draw_restoration": 1}),
    ],
)  # fmt: skip
def test_jobs_of_variations(options: dict[str, Any], changes: dict[str, int]) -> None:
    assert jobs(planned(options)) == +Counter({**DEMO, **changes})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"source": UNLABELLED},
        {"distil": {"steps": 1}},
        {"condition": {"kind": "sketch"}},
        {"restore": {"arms": ["experimental", "diffusion", "mathematical"]}},
    ],
)
def test_each_work_stands_after_what_it_waits_for(options: dict[str, Any]) -> None:
    seen: set[str] = set()
    for one in planned(options):
        assert set(one.after) <= seen, one.name
        assert one.name not in seen
        seen.add(one.name)
    assert one.rule == "report"


@given(size=st.integers(1, 3000), tile=st.integers(2, 40), overlap=st.integers(0, 8),
       stride=st.sampled_from(sorted({*STRIDES.values()})))  # fmt: skip
def test_tiles_are_those_of_the_sampler(
    size: int, tile: int, overlap: int, stride: int
) -> None:
    tile, overlap = stride * tile, stride * min(overlap, (tile - 1) // 2)
    side = even_tile(size, tile, overlap, stride)
    assert tiled_length(size, tile, overlap, stride) == sum(
        len(one.index[0]) for one in tile_grid((size,), (side,), (overlap,))
    )


@pytest.mark.parametrize("preset", STRIDES)
def test_stride_is_that_of_the_network(preset: str) -> None:
    config = Network(preset=preset)
    assert network_spec(config).stride == config.stride


def test_restoration_has_rates_and_sizes() -> None:
    work = planned({"restore": {"arms": ["experimental"]}})
    own = [one for one in work if "pairs" in one.rule or "restor" in one.rule]
    assert len({one.rule for one in own}) == 6
    for one in own:
        assert packaged_rates().find(one.key, gpu=False)[0] is not None, one.rule
        assert one.disk_key in packaged_rates().disk, one.rule
    training = next(one for one in own if one.rule == "train_restorer")
    assert training.units == 2000 * 16 * 64**2


@pytest.mark.parametrize("preset", STRIDES)
def test_every_preset_has_rates(preset: str) -> None:
    for rule in ("train_diffusion", "choose_start", "synthesise"):
        rate, _ = packaged_rates().find(f"{rule}/{preset}", gpu=False)
        assert rate is not None, rule
        assert rate.seconds_per_unit > 0


def test_each_file_of_a_data_set_is_a_job(tmp_path: Path) -> None:
    registry = tmp_path / "registry.yaml"
    files = [{"name": f"{n}.zip", "url": f"http://localhost/{n}.zip"} for n in "abc"]
    entry = {
        "title": "t", "files": files, "licence": "CC0", "citation": "c",
        "homepage": "http://localhost", "layout": {"images": "a.zip/{id}.png"},
    }  # fmt: skip
    registry.write_text(yaml.safe_dump({"mine": entry}))
    source = {"kind": "dataset", "dataset": "mine", "registry": str(registry)}
    work = planned({"source": source}, HUNDRED)
    assert jobs(work)["download"] == 3
    acquire = next(one for one in work if one.rule == "acquire")
    assert acquire.after == ("download",)
    assert "download" not in jobs(planned({}))


def test_work_by_hand() -> None:
    config = make_config(
        {
            "simulate": {"images": 6, "size": [100, 200], "shards": 2},
            "synthesise": {"steps": 5, "tile": 96, "overlap": 16},
            "train": {"steps": 10, "batch_size": 4, "patch": 32},
            "start": {"candidates": [100, 200], "value": 300, "images": 2},
            "segment": {"cellpose": {"steps": 7, "batch_size": 2, "patch": 40}},
        }
    )
    # 100 px: 2 cores of 56, tiles of 88; 200 px: 4 cores of 56, tiles of 88.
    assert network_pixels(config) == 5 * (2 * 88) * (4 * 88)
    units = {one.name: one.units for one in works(config, PACKAGE)}
    assert units["synthesise.eschweiler"] == 3 * network_pixels(config)
    assert units["choose_start.eschweiler"] == 3 * 2 * network_pixels(config)
    assert units["train_diffusion.eschweiler"] == 10 * 4 * 32 * 32
    assert units["train_segmenter.cellpose.sketch"] == 7 * 2 * 40 * 40
    assert units["check"] == units["simulate"] == 3 * 100 * 200
    assert units["predict.cellpose.sketch"] == 195 * 512
    stored = {one.name: one.stored for one in works(config, PACKAGE)}
    assert stored["simulate"] == 3 * 100 * 200 * (4 + 2)
    assert stored["synthesise.eschweiler"] == 3 * 100 * 200 * (2 + 2)
    assert stored["prepare"] == (293 + 195) * 512 * (2 + 2)
    by_group = {one.name: one.stored for one in works(config, HUNDRED)}
    assert by_group["prepare"] == 0


def test_a_student_synthesises_and_its_teacher_does_the_rest() -> None:
    options: dict[str, Any] = {"simulate": {"shards": 2}}
    before = {one.name: one for one in planned(options)}
    options["distil"] = {
        "steps": 3, "teacher_steps": 10, "train_steps": 7, "batch_size": 8, "patch": 16
    }  # fmt: skip
    after = {one.name: one for one in planned(options)}
    teacher, name = "choose_start.eschweiler", "distil.eschweiler"
    assert after[teacher] == before[teacher]
    assert after[name].after == ("fit_sketch", teacher)
    # 3 ways of 3 segments of 4 steps make 8 items, each for three evaluations.
    assert after[name].units == 7 * (3 * 3 * 4 + 3 * 8) * 16 * 16
    made, was = after["synthesise.eschweiler"], before["synthesise.eschweiler"]
    assert made.after == ("simulate", name)
    assert made.units == was.units * 3 / Config().synthesise.steps
    assert made.gpu
    assert after[name].gpu


def test_who_asks_for_a_gpu() -> None:
    asking = {one.key for one in planned({}) if one.gpu}
    assert asking == {
        "train_diffusion/eschweiler", "choose_start/eschweiler", "predict/cellpose",
        "synthesise/eschweiler", "train_segmenter/cellpose", "predict_generalist",
    }  # fmt: skip
    assert not any(one.gpu for one in planned({"train": {"device": "cpu"}}))


@pytest.mark.parametrize("name", ["train.patch", "synthesise.tile", "distil.patch"])
def test_sides_that_do_not_fit_the_network_are_refused(name: str) -> None:
    good = {
        "network": {"preset": "iddpm"}, "train": {"patch": 96}, "distil": {"steps": 1},
        "synthesise": {"tile": 256, "overlap": 32},
    }  # fmt: skip
    resolved(make_config(good))
    section, option = name.split(".")
    bad = make_config({**good, section: {**good.get(section, {}), option: 72}})
    with pytest.raises(PhantomscopeError, match="use a multiple of 32") as caught:
        resolved(bad)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("train", "student", "wanted"),
    [({}, {}, (1, 1)), ({"devices": "auto"}, {}, (1, 1)), ({"devices": 4}, {}, (4, 4)),
     ({"devices": 4, "threads": 2}, {"batch_size": 3}, (4, 3))],
)  # fmt: skip
def test_processes_share_a_training(train, student, wanted) -> None:
    work = planned({"train": train, "distil": {"steps": 2} | student})
    found = {one.rule: one for one in work}
    threads = train.get("threads", 1)
    for rule, processes in zip(("train_diffusion", "distil"), wanted, strict=True):
        assert found[rule].processes == processes
        assert found[rule].threads == processes * threads
    assert {one.processes for one in work if "i" not in one.rule} == {1}


# Shards


def test_few_images_give_two_shards_and_one_image_one() -> None:
    assert shard_count(Config()) == 2
    assert shard_count(make_config({"simulate": {"images": 1}})) == 1
    assert shard_count(make_config({"simulate": {"images": 9, "shards": 7}})) == 7


def test_a_million_images_give_about_a_thousand_shards() -> None:
    options: dict[str, Any] = {"simulate": {"images": 1_000_000}}
    count = shard_count(make_config(options))
    assert 500 <= count <= 2000
    options["simulate"]["job_minutes"] = 60
    assert shard_count(make_config(options)) == pytest.approx(count / 2, abs=1)
    options["simulate"]["job_minutes"] = 0.5
    assert shard_count(make_config(options)) == 2000


def test_a_job_takes_the_time_that_was_asked_for() -> None:
    config = make_config({"simulate": {"images": 50_000, "job_minutes": 20}})
    work = {one.rule: one for one in works(resolved(config), PACKAGE)}
    rate, _ = packaged_rates().find("synthesise/eschweiler", gpu=False)
    assert rate is not None
    minutes = rate.seconds_per_unit * work["synthesise"].units / 60
    assert 19 < minutes <= 20


@pytest.mark.parametrize(
    "options",
    [{"shards": 0}, {"shards": "many"}, {"shards": 65}, {"shards": 2.5},
     {"job_minutes": 0}],
)  # fmt: skip
def test_numbers_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(PhantomscopeError, match=r"`simulate(\.\w+)?`"):
        make_config({"simulate": options})


def test_resolved_changes_the_shards_alone() -> None:
    config = resolved(Config())
    assert config.simulate.shards == 2
    assert resolved(config) == config
    again = config.simulate.model_copy(update={"shards": "auto"})
    assert config.model_copy(update={"simulate": again}) == Config()


def test_work_needs_a_number_of_shards() -> None:
    with pytest.raises(ValueError, match="resolved first"):
        works(Config(), PACKAGE)


# Source images


def test_packaged_image_is_cut_in_two() -> None:
    train, test = split_images(Config(), PACKAGE)
    assert train.shapes == Counter({(293, 512): 1})
    assert test.shapes == Counter({(195, 512): 1})


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.95),
)
def test_groups_are_divided_without_loss(counts: list[int], fraction: float) -> None:
    config = make_config({"split": {"by": "group", "train_fraction": fraction}})
    shapes = Counter({(100 + n, 100): count for n, count in enumerate(counts)})
    train, test = split_images(config, Images(shapes, "uint8", sum(counts)))
    assert train.shapes + test.shapes == shapes
    assert train.count >= 1
    if sum(counts) > 1 and max(counts) > 1:
        assert test.count >= 1


def write_manifest(results: Path, rows: list[str]) -> Path:
    folder = results / "images"
    folder.mkdir(parents=True)
    (folder / "manifest.csv").write_text("\n".join(["id,height,width,dtype,group",
                                                    *rows]))  # fmt: skip
    return folder / "manifest.csv"


def test_acquired_images_are_counted(tmp_path: Path) -> None:
    write_manifest(tmp_path, ["a,64,80,uint8,1", "b,64,80,uint8,1", "c,9,9,uint8,2"])
    images = source_images(Config(), tmp_path)
    assert images.shapes == Counter({(64, 80): 2, (9, 9): 1})
    assert (images.dtype, images.groups, images.pixels) == ("uint8", 2, 10321)


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ["a,many,80,uint8,1"])
    with pytest.raises(PhantomscopeError, match="broken") as caught:
        source_images(Config(), tmp_path)
    assert caught.value.where == str(manifest)


def test_a_folder_is_listed(tmp_path: Path) -> None:
    from skimage.io import imsave

    rng = np.random.default_rng(0)
    for n in range(11):
        pixels = rng.integers(0, 255, (40, 50)).astype(np.uint8)
        imsave(tmp_path / f"{n}.png", pixels, check_contrast=False)
    config = make_config({"source": {"kind": "folder", "path": str(tmp_path)}})
    images = source_images(config, tmp_path / "none")
    assert images.shapes == Counter({(40, 50): 11})
    assert images.dtype == "uint8"
    few = {"kind": "folder", "path": str(tmp_path), "limit": 5}
    assert source_images(make_config({"source": few}), tmp_path / "none").count == 5


def test_given_numbers_count_and_absent_ones_are_asked_for(tmp_path: Path) -> None:
    config = make_config({"source": UNLABELLED})
    images = source_images(config, tmp_path, count=30, pixels=10_000)
    assert images.shapes == Counter({(100, 100): 30})
    with pytest.raises(PhantomscopeError, match="--source-images 100") as caught:
        source_images(config, tmp_path)
    assert caught.value.where == "source"
    with pytest.raises(PhantomscopeError, match="go together"):
        source_images(config, tmp_path, count=3)
    with pytest.raises(PhantomscopeError, match="from 1"):
        source_images(config, tmp_path, count=0, pixels=4)
