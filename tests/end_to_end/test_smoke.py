"""The whole path at smoke scale, from packaged images to the report."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.config.load import load_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.stages import checking, diffusion, sketching, synthesis
from phantomscope.tables.results import ResultRow
from phantomscope.tables.style import TOOLS
from phantomscope.verify import verify

pytestmark = pytest.mark.end_to_end

RESULTS = Path("results/demo-smoke")
COLUMNS = (
    "id,experiment,dataset,metric,condition,method,value,ci_low,ci_high,n,unit_of_n,"
    "seed,data_kind,scale,source"
).split(",")
METHODS = {
    *((tool, arm) for tool in ("cellpose", "stardist")
      for arm in ("synthetic", "annotated", "sketch")),
    ("otsu_watershed", "annotated"),
}  # fmt: skip
ABSENT = ("generalist", "none")


@pytest.fixture(scope="module")
def smoke(root, snakemake, tmp_path_factory):
    """A function that runs the smoke experiment, without weights of a generalist."""
    home = tmp_path_factory.mktemp("home")

    def run(folder: Path, *arguments: object) -> str:
        process = snakemake(
            folder, "--configfile", root / "config/demo/smoke.yaml", *arguments,
            HOME=str(home), CELLPOSE_LOCAL_MODELS_PATH=str(home),
        )  # fmt: skip
        text = process.stdout + process.stderr
        assert process.returncode == 0, text
        return text

    return run


@pytest.fixture(scope="module")
def finished(smoke, tmp_path_factory):
    """Folder with the finished experiment; tests do not change it."""
    folder = tmp_path_factory.mktemp("smoke")
    smoke(folder, "--cores", 2)
    return folder


@pytest.fixture(scope="module")
def results(finished):
    return finished / RESULTS


@pytest.fixture(scope="module")
def table(results):
    return pd.read_csv(results / "tables/segmentation.csv", dtype={"seed": str})


class Links(HTMLParser):
    """Everything that a page loads, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [str(v) for name, v in attrs if name in ("src", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def hashes(folder: Path) -> dict[str, str]:
    images = ImageSet.open(folder)
    images.verify()
    return dict(images.table["sha256"] + images.table["mask_sha256"])


def test_report_is_one_page_with_everything_in_it(results):
    page = (results / "report.html").read_text(encoding="utf-8")
    links = Links(page)
    assert len(links.loaded) >= 8
    assert all(link.startswith("data:image/png;base64,") for link in links.loaded)
    assert not {"link", "script", "iframe", "object"} & links.tags
    assert "url(" not in page
    assert "@import" not in page
    for name in TOOLS.values():
        assert name in links.text
    assert "smoke" in links.text
    assert "weights not present" in links.text


def test_table_follows_the_contract(table):
    assert list(table) == COLUMNS == [field.name for field in fields(ResultRow)]
    assert table["id"].is_unique
    assert set(table["experiment"]) == {"demo-smoke"}
    assert set(table["scale"]) == {"smoke"}
    assert set(table["data_kind"]) == {"real"}
    assert table["dataset"].notna().all()
    plain = table[~table["condition"].str.contains(" / ")]
    found = set(zip(plain["method"], plain["condition"], strict=True))
    assert found == {*METHODS, ABSENT}
    for method, condition in METHODS:
        rows = plain[(plain["method"] == method) & (plain["condition"] == condition)]
        assert set(rows["seed"]) == {"0", "all"}
        assert {"ap_0.50", "ap_0.75", "ap_mean", "f1_0.50", "pq_0.50", "seg", "dice",
                "splits", "merges"} <= set(rows["metric"])  # fmt: skip
        scores = rows[~rows["metric"].isin(["splits", "merges"])]
        assert scores["value"].between(0, 1).all()
        assert (rows["n"] > 0).all()
        assert rows["unit_of_n"].notna().all()
        interval = rows[rows["ci_low"].notna()]
        assert {"ap_0.50"} <= set(interval["metric"])
        assert (interval["ci_low"] <= interval["ci_high"]).all()


def test_an_absent_generalist_is_said_not_scored(results, table):
    rows = table[table["method"] == "generalist"]
    assert len(rows) == 1
    assert rows["value"].isna().all()
    assert rows["source"].iloc[0] == "absent: weights not present"
    assert "weights not present" in (results / "tables/segmentation.md").read_text()


def test_image_sets_are_as_recorded(results):
    for name in ("images", "prepared", "checked", "camera"):
        ImageSet.open(results / name).verify()
    prepared = ImageSet.open(results / "prepared")
    assert_disjoint(prepared)
    assert set(prepared.table["split"]) == {"train", "test"}
    drawn = {
        identifier
        for shard in sorted((results / "synthetic").glob("shard-???"))
        for identifier in ImageSet.open(shard).ids
    }
    assert len(drawn) == 6
    rejected = pd.read_csv(results / "checked/rejected.csv")
    assert drawn == {*ImageSet.open(results / "checked").ids, *rejected["id"]}


def test_every_file_of_a_finished_run_is_accounted_for(results):
    report = verify(results)
    assert report.ok, report.render()
    assert not report.unaccounted
    assert not report.unrecorded
    assert not report.partial


def test_every_job_left_a_log_and_its_costs(results):
    stems = {
        kind: {
            str(path.relative_to(results / kind).with_suffix(""))
            for path in (results / kind).rglob("*") if path.is_file()
        }
        for kind in ("logs", "benchmarks")
    }  # fmt: skip
    assert stems["logs"] == stems["benchmarks"]
    assert len(stems["logs"]) == 45


def test_a_second_run_does_nothing(smoke, finished):
    assert "Nothing to be done" in smoke(finished, "--cores", 2)


def test_workflow_report_renders(smoke, finished, tmp_path):
    smoke(finished, "--report", tmp_path / "report.zip")
    assert (tmp_path / "report.zip").stat().st_size > 100_000


def test_a_lost_shard_comes_back_the_same(smoke, finished, results, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    copy = tmp_path / RESULTS
    shard = "synthetic/shard-000"
    shutil.rmtree(copy / shard)
    # Named, since Snakemake makes no lost file anew that no other job asks for.
    text = smoke(tmp_path, "--cores", 2, "--", RESULTS / shard, RESULTS / "checked")
    assert "sketches into images, shard 000" in text
    assert "sketches into images, shard 001" not in text
    for name in (shard, "checked"):
        assert hashes(copy / name) == hashes(results / name)


def test_the_unannotated_path_does_not_need_readable_labels(
    smoke, finished, results, tmp_path
):
    """Synthetic images stay the same with garbage for the labels of real ones."""
    copy = tmp_path / RESULTS
    shutil.copytree(finished / ".snakemake", tmp_path / ".snakemake")
    for name in ("images", "prepared"):
        shutil.copytree(results / name, copy / name)
        for path in (copy / name / "labels").iterdir():
            if "test" not in path.name:
                path.write_bytes(b"garbage")
    shutil.copy2(results / "normalisation.json", copy)
    with pytest.raises(PhantomscopeError):
        ImageSet.open(copy / "prepared").select(split="train").verify()

    smoke(tmp_path, "--cores", 2, "--", RESULTS / "checked", RESULTS / "camera")
    for path in (copy / "prepared/labels").glob("*train*"):
        assert path.read_bytes() == b"garbage"
    for name in ("checked", "camera"):
        assert hashes(copy / name) == hashes(results / name)


@contextmanager
def recording() -> Iterator[list[str]]:
    """Note every file that Python opens; a hook cannot be removed, only silenced."""
    opened: list[str] = []
    active = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], str | bytes):
            opened.append(os.path.realpath(os.fsdecode(arguments[0])))

    sys.addaudithook(note)
    try:
        yield opened
    finally:
        active = False


def test_no_stage_of_the_unannotated_path_opens_a_label(root, results, tmp_path):
    config = load_config(root / "config/demo/smoke.yaml")
    prepared, normalisation = results / "prepared", results / "normalisation.json"
    real = {"prepared": prepared, "normalisation": normalisation}
    sketch, model = tmp_path / "sketch.yaml", tmp_path / "model.pt"
    sketches, start = tmp_path / "sketches", tmp_path / "start.json"
    synthetic = tmp_path / "synthetic"
    annotation = tuple(
        f"{(results / name / 'labels').resolve()}{os.sep}"
        for name in ("images", "prepared")
    )

    with recording() as opened:  # the recorder sees what is opened
        part = ImageSet.open(prepared)
        part.mask(part.select(split="train").ids[0])
    assert any(path.startswith(annotation) for path in opened)

    # fmt: off
    with recording() as opened:
        sketching.fit_sketch(
            config, **real, sketch=sketch, fit=tmp_path / "fit.json",
            objects=tmp_path / "objects.csv",
        )
        sketching.simulate(config, sketch=sketch, sketches=sketches)
        sketching.photograph(
            config, **real, sketch=sketch, sketches=sketches,
            photographs=tmp_path / "camera",
        )
        diffusion.train_diffusion(
            config, **real, model=model, metrics=tmp_path / "metrics.jsonl",
            state=tmp_path / "state",
        )
        diffusion.choose_start(
            config, **real, sketch=sketch, model=model, start=start,
            table=tmp_path / "t_start.csv", start_images=tmp_path / "start",
        )
        synthesis.synthesise(
            config, **real, model=model, start=start, sketches=sketches,
            synthetic=synthetic,
        )
        checking.check(
            config, normalisation=normalisation, sketch=sketch, synthetic=synthetic,
            checks=tmp_path / "checks",
        )
        checking.gather(
            config, parts=[tmp_path / "checks"], gathered=tmp_path / "checked"
        )
    # fmt: on
    images = str((prepared / "images").resolve())
    assert any(path.startswith(images) for path in opened)
    assert [path for path in opened if path.startswith(annotation)] == []
