"""Plans made of rates, and the command that prints them."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.runs import MADE_UP, PACKAGE, UNLABELLED, planned, write_run

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.config.painting import PAPER_PLATES
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.command import add_arguments, run
from phantomscope.planning.plan import CPU_BOUND, Plan, make_plan, render, wall_seconds
from phantomscope.planning.rates import Rates, packaged_rates
from phantomscope.planning.sources import Images, source_images
from phantomscope.planning.translation import translation_works
from phantomscope.planning.work import Work

# Plans


def chain(*rules: str, jobs: int = 1, gpu: bool = False) -> list[Work]:
    return [
        Work(rule, jobs, 1, "job", rules[n - 1 : n] if n else (), gpu=gpu)
        for n, rule in enumerate(rules)
    ]


def test_wall_time_by_hand() -> None:
    assert wall_seconds(chain("a", "b"), [3, 4], 8) == 7
    assert wall_seconds(chain("a", jobs=5), [2], 2) == 6
    assert wall_seconds(chain("a", jobs=5, gpu=True), [2], 8, gpus=1) == 10
    assert wall_seconds(chain("a", jobs=5, gpu=True), [2], 8) == 2
    # One that shares two GPUs leaves one of three to another.
    pair = [Work(x, 1, 1, "job", (), gpu=True, processes=2) for x in "ab"]
    assert wall_seconds(pair, [3, 4], 8, gpus=3) == 7
    assert wall_seconds(pair, [3, 4], 8, gpus=4) == 4
    # As many as there are, where there are fewer.
    assert wall_seconds(pair, [3, 4], 8, gpus=1) == 7
    # The short one fills the core that the long one leaves.
    two = [Work("long", 1, 1, "job", ()), Work("short", 3, 1, "job", ())]
    assert wall_seconds(two, [6, 2], 2) == 6
    # What has priority starts first.
    assert wall_seconds([*two[::-1]], [2, 6], 2) == 8
    first = Work("long", 1, 1, "job", (), first=True)
    assert wall_seconds([two[1], first], [2, 6], 2) == 6


@given(seconds=st.floats(0.1, 100), cores=st.integers(1, 12), images=st.integers(1, 99))
def test_wall_time_is_within_its_bounds(
    seconds: float, cores: int, images: int
) -> None:
    options = {"simulate": {"images": images, "shards": min(images, 7)}}
    work = planned(options)
    times = [seconds] * len(work)
    found = wall_seconds(work, times, cores)
    total = sum(one.jobs * seconds for one in work)
    longest: dict[str, float] = {}
    for one in work:
        longest[one.name] = seconds + max((longest[a] for a in one.after), default=0)
    path = max(longest.values())
    assert max(path, total / cores) <= found * (1 + 1e-9)
    assert found <= (path + total / cores) * (1 + 1e-9)


def test_totals_are_the_sums_of_jobs() -> None:
    rates = packaged_rates()
    plan = make_plan(Config(), rates, 2, PACKAGE)
    work = planned({})
    by_hand = 0.0
    for one in work:
        rate, _ = rates.find(one.key, gpu=False)
        assert rate is not None
        by_hand += one.jobs * rate.seconds(one.units)
    assert plan.totals["core_hours"] == pytest.approx(by_hand / 3600)
    assert plan.totals["gpu_hours"] == 0
    assert plan.totals["jobs"] == sum(one.jobs for one in planned({}))
    assert plan.wall_minutes * 2 >= plan.totals["core_hours"] * 60
    assert json.loads(json.dumps(plan.plain()))["totals"] == plan.totals


def test_threads_count_as_cores() -> None:
    one = make_plan(Config(), packaged_rates(), 2, PACKAGE)
    config = make_config({"train": {"threads": 4}})
    four = make_plan(config, packaged_rates(), 2, PACKAGE)
    hours = {s.name: s.core_hours for s in one.stages}["train_diffusion/eschweiler"]
    assert four.totals["core_hours"] - one.totals["core_hours"] == pytest.approx(
        3 * hours
    )
    assert [any("threads" in n for n in p.notes) for p in (one, four)] == [False, True]


def test_a_plan_says_what_it_does_not_know() -> None:
    rates = packaged_rates()
    without = {k: r for k, r in rates.devices["cpu"].items() if k != "gather"}
    plan = make_plan(Config(), Rates({"cpu": without}, rates.disk), 2, PACKAGE)
    assert any("left out" in note and "gather" in note for note in plan.notes)
    text = render(plan)
    assert "no measured rate" in text
    row = next(line for line in text.splitlines() if line.startswith("gather"))
    assert row.split()[2] == "?"


def test_a_gpu_without_a_rate_is_an_upper_bound() -> None:
    on_cpu = make_plan(Config(), packaged_rates(), 8, PACKAGE)
    on_gpu = make_plan(Config(), packaged_rates(), 8, PACKAGE, gpus=1)
    assert CPU_BOUND in on_gpu.notes
    assert CPU_BOUND not in on_cpu.notes
    assert on_gpu.totals["gpu_hours"] > 0
    assert on_gpu.totals["core_hours"] == pytest.approx(on_cpu.totals["core_hours"])
    assert "CPU rate as an upper bound" in render(on_gpu)


def command(*arguments: str) -> str:
    parser = ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def test_command_prints_a_table_whose_columns_line_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = command("--jobs", "2").splitlines()
    assert lines[0].startswith("demo: 64 synthetic images of 192 x 192 px in 2 shards")
    table = lines[2 : lines.index("", 2)]
    assert table[0].split()[:2] == ["stage", "jobs"]
    assert table[-1].split()[:2] == ["total", str(sum(one.jobs for one in planned({})))]
    ends = {line.index("[") for line in table[1:-1]}
    assert len(ends) == 1
    assert any(line.startswith("wall time with 2 job(s) at once: ") for line in lines)


def test_command_takes_rates_and_source_from_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "results/made-up", packaged_rates(), MADE_UP)
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"source": UNLABELLED}))
    source = ["--source-images", "50", "--source-pixels", "1000000"]
    rates = ["--rates", "results/made-up", "--json"]
    plan = json.loads(command("--config", str(config), *rates, *source))
    stages = {stage["name"]: stage for stage in plan["stages"]}
    assert stages["acquire"]["units"] == 50e6
    assert "results/made-up" in stages["acquire"]["rate"]
    assert set(plan) == {
        "title", "stages", "wall_minutes", "jobs_at_once", "gpus", "notes", "totals",
    }  # fmt: skip


def test_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("synthesise: {device: cuda}\n")
    with pytest.raises(PhantomscopeError, match="asks for a GPU"):
        command("--config", str(config), "--gpus", "0")
    with pytest.raises(PhantomscopeError, match="cannot be"):
        command("--jobs", "0")
    assert "1 GPU" in command("--config", str(config))


def test_plates_are_fetched_once_and_freed() -> None:
    """Six channels of 1080 px; full size is there of so many shards only."""

    def plan(**changes: object) -> Plan:
        plates = {"kind": "gallery", "plates": PAPER_PLATES, "shards": 96}
        own = {k: v for k, v in changes.items() if k in ("scope", "pairs_from")}
        plates |= {k: v for k, v in changes.items() if k not in own}
        translate = {"methods": ["unet"], "size": 512, "plates": plates, **own}
        config = make_config({"translate": translate})
        return make_plan(config, packaged_rates(), 8, source_images(config))

    raw = 27_648 * 6 * 1080 * 1080 * 2
    per_byte = packaged_rates().disk["acquire_plates"]
    for changes, share in (
        ({}, 1),
        ({"keep": "fetched"}, 4 / 96),
        ({"keep": "pairs"}, 4 / 96),
        # All twelve shards of a plate have to be counted.
        ({"keep": "pairs", "scope": "plate"}, 12 / 96),
    ):
        found = {stage.name: stage for stage in plan(**changes).stages}
        assert found["fetch_plates"].download_bytes == pytest.approx(0.89 * raw)
        kept = share if changes.get("keep") == "pairs" else 1
        assert found["fetch_plates"].disk_bytes == pytest.approx(0.89 * raw * kept)
        stored = found["acquire_plates"].disk_bytes
        assert stored == pytest.approx(per_byte * raw * share)
        assert found["acquire_plates"].jobs == found["scale_fields"].jobs == 96
        counted = "measure_intensities" in found
        assert counted == (changes.get("scope") == "plate")
    shared = plan(pairs_from="results/other")
    assert shared.totals["download_bytes"] == 0
    assert {stage.name for stage in shared.stages}.isdisjoint(
        {"fetch_plates", "acquire_plates", "scale_fields"}
    )
    assert plan(address="/a/folder").totals["download_bytes"] == 0


def test_planning_is_light() -> None:
    """The Snakefile waits for it whenever it is read."""
    code = (
        "import phantomscope.config.load, sys; before = set(sys.modules)\n"
        "import phantomscope.planning.sharding as s, phantomscope.planning.plan\n"
        "from phantomscope.config.model import Config; s.resolved(Config())\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "pandas", "scipy", "skimage", "tifffile", "imageio"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("ways", "jobs"),
    [(["found"], [3, 6, 1]), (["found", "true"], [3, 12, 2]), ([], [])],
)
def test_features_of_translation_are_planned(ways: list[str], jobs: list[int]) -> None:
    """Real stains once, predicted ones for each seed and way; all in shards."""
    plates = {"kind": "fields", "fields": {"path": "nowhere"}}
    options = {"methods": ["unet"], "seeds": [0, 1], "profiles": ways, "plates": plates}
    config = make_config({"translate": {**options, "shards": 3}})
    found = translation_works(config, Images(Counter({(64, 64): 40}), "uint16", 40))
    own = [one for one in found if "profiles" in one.rule]
    assert [one.jobs for one in own] == jobs
    assert all(packaged_rates().find(one.key, gpu=False)[0] for one in own)
    (table,) = (one for one in found if one.rule == "tabulate_translation")
    assert ("compare_profiles.unet" in table.after) == bool(ways)
