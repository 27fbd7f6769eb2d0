"""Rates against runs made up from them, and the plans made of rates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.rates import Point, fit
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.command import add_arguments, run
from phantomscope.planning.plan import CPU_BOUND, make_plan, render, wall_seconds
from phantomscope.planning.rates import Rate, Rates, load_rates, packaged_rates
from phantomscope.planning.runs import open_run, rates_from_run
from phantomscope.planning.sharding import resolved
from phantomscope.planning.sources import Images, source_images
from phantomscope.planning.work import Work, works

PACKAGE = source_images(Config(), Path("nowhere"))
UNLABELLED = {"kind": "folder", "path": "my images"}


def planned(options: dict[str, Any] | Config, images: Images = PACKAGE) -> list[Work]:
    config = options if isinstance(options, Config) else make_config(options)
    return works(resolved(config), images)


# Rates


def test_packaged_rates_know_every_kind_of_job() -> None:
    rates = packaged_rates()
    for preset in ("eschweiler", "small"):
        for one in planned({"network": {"preset": preset}}):
            rate, device = rates.find(one.key, gpu=False)
            assert rate is not None, one.key
            assert device == "cpu"
            assert rate.seconds(one.units) > 0
            assert rate.measured_on
            assert rate.n >= 1
    assert {"uint8", "uint16", "float32"} <= set(rates.disk)
    assert all(0 < rates.disk[dtype] < 1 for dtype in ("uint8", "uint16", "float32"))


def test_rates_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(packaged_rates().plain()))
    assert load_rates(path) == packaged_rates()
    path.write_text('{"cpu": {"check": {"seconds": 1}}, "disk": {}}')
    with pytest.raises(PhantomscopeError, match="no file of rates"):
        load_rates(path)


def test_a_gpu_rate_is_preferred_and_never_invented() -> None:
    slow, fast = Rate(2, 0, "a", 1), Rate(1, 0, "b", 1)
    rates = Rates({"cpu": {"x": slow, "y": slow}, "cuda": {"x": fast}}, {})
    assert rates.find("x", gpu=True) == (fast, "cuda")
    assert rates.find("x", gpu=False) == (slow, "cpu")
    assert rates.find("y", gpu=True) == (slow, "cpu")
    assert rates.find("z", gpu=True) == (None, "")
    assert "cuda" not in packaged_rates().devices


def test_rates_of_a_run_come_before_the_others() -> None:
    old, new = Rate(2, 0, "a", 1), Rate(1, 0, "b", 1)
    run_rates = Rates({"cuda": {"x": new}}, {"uint8": 0.2})
    both = run_rates.over(Rates({"cpu": {"x": old}}, {"uint8": 0.1, "uint16": 0.3}))
    assert both.find("x", gpu=True)[0] == new
    assert both.find("x", gpu=False)[0] == old
    assert both.disk == {"uint8": 0.2, "uint16": 0.3}


@given(
    slope=st.floats(1e-6, 1e-2), fixed=st.floats(0.01, 10), large=st.floats(1e3, 1e6)
)
def test_a_line_through_two_runs(slope: float, fixed: float, large: float) -> None:
    points = [Point(u, fixed + slope * u, 1, None) for u in (100.0, large)]
    found = fit(points)
    for point in points:
        seconds = found[1] + found[0] * point.units
        assert seconds == pytest.approx(point.seconds, rel=1e-6)


def test_a_line_is_never_negative_and_one_size_has_nothing_fixed() -> None:
    assert fit([Point(5, 10, 1, None)] * 2) == (2, 0)
    slope, fixed = fit([Point(1, 10, 1, None), Point(100, 5, 1, None)])
    assert (slope, fixed) == pytest.approx((0, 10 * 5 * 15 / 125))


# Runs

MADE_UP = {
    "simulate": {"images": 12, "size": [64, 96], "shards": 3},
    "segment": {"seeds": [0, 1]},
}


def benchmark_names(one: Work, config: Config) -> list[str]:
    """Names as the rules write them."""
    if one.rule in ("simulate", "photograph", "synthesise", "check"):
        return [f"{one.rule}.{n:03d}" for n in range(one.jobs)]
    if one.rule in ("train_segmenter", "predict"):
        return [f"{one.name}.{seed}" for seed in range(one.jobs)]
    if one.rule == "evaluate":
        method = one.part.split(".")[1:] or ["generalist", "none"]
        return [f"evaluate/{'/'.join(method)}/seed{seed}" for seed in range(one.jobs)]
    return [f"gather.{one.part}" if one.rule == "gather" else one.rule]


def write_run(
    results: Path, rates: Rates, options: dict[str, Any], gpu: str = ""
) -> list[Work]:
    """Write what a run with exactly these rates would leave."""
    config = resolved(make_config(options))
    results.mkdir(parents=True, exist_ok=True)
    (results / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (results / "report.html").write_text("x" * 1000)
    work = works(config, PACKAGE)
    for one in work:
        rate, _ = rates.find(one.key, bool(gpu and one.gpu))
        assert rate is not None, one.key
        for name in benchmark_names(one, config):
            path = results / "benchmarks" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "s\th:m:s\tmax_rss\n"
                f"{rate.seconds(one.units)!r}\t0:00:01\t{len(name)}.5\n"
            )
    machine = {"cores": 2} | ({"gpu": gpu} if gpu else {})
    record = results / "diffusion/model.pt.provenance.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"machine": machine}))
    return work


@settings(max_examples=15)
@given(factor=st.floats(0.01, 100))
def test_rates_of_a_run_invert_its_work(
    factor: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = packaged_rates().devices["cpu"]
    slower = {
        key: Rate(factor * r.seconds_per_unit, factor * r.seconds_fixed, "x", 1)
        for key, r in known.items()
    }
    results = tmp_path_factory.mktemp("run")
    work = write_run(results, Rates({"cpu": slower}, {}), MADE_UP)
    found = rates_from_run(results).devices
    assert set(found) == {"cpu"}
    assert set(found["cpu"]) == {one.key for one in work}
    for key, rate in found["cpu"].items():
        assert rate.seconds_per_unit == pytest.approx(slower[key].seconds_per_unit)
        assert rate.seconds_fixed == pytest.approx(slower[key].seconds_fixed)
        assert rate.n == sum(one.jobs for one in work if one.key == key)


def test_without_known_rates_all_time_is_work(tmp_path: Path) -> None:
    rates = Rates({"cpu": {one.key: Rate(0.5, 0, "x", 1) for one in planned({})}}, {})
    work = write_run(tmp_path, rates, MADE_UP)
    found = rates_from_run(tmp_path, Rates({}, {}))
    for one in work:
        rate = found.devices["cpu"][one.key]
        assert rate.seconds_per_unit == pytest.approx(0.5)
        assert rate.seconds_fixed == 0
    assert found.devices["cpu"]["check"].max_rss_mb == len("check.000") + 0.5
    assert found.disk["report"] == 1000


def test_a_run_plans_its_own_total(tmp_path: Path) -> None:
    write_run(tmp_path, packaged_rates(), MADE_UP)
    taken = 0.0
    for path in (tmp_path / "benchmarks").rglob("*.tsv"):
        taken += float(path.read_text().splitlines()[1].split("\t")[0])
    plan = make_plan(make_config(MADE_UP), rates_from_run(tmp_path), 2, PACKAGE)
    assert plan.totals["core_hours"] * 3600 == pytest.approx(taken)


def test_a_run_on_a_gpu_gives_rates_of_that_gpu(tmp_path: Path) -> None:
    fast = {one.key: Rate(1e-9, 0, "x", 1) for one in planned({}) if one.gpu}
    rates = Rates({"cuda": fast, **packaged_rates().devices}, {})
    write_run(tmp_path, rates, MADE_UP, gpu="Some GPU")
    found = rates_from_run(tmp_path)
    assert set(found.devices["cuda"]) == set(fast)
    rate = found.devices["cuda"]["synthesise/eschweiler"]
    assert rate.seconds_per_unit == pytest.approx(1e-9)
    assert "Some GPU" in rate.measured_on
    assert "synthesise/eschweiler" not in found.devices["cpu"]
    plan = make_plan(
        make_config(MADE_UP), found.over(packaged_rates()), 4, PACKAGE, gpus=2
    )
    assert CPU_BOUND not in plan.notes


def test_processes_that_share_a_training_cost_as_much_as_one(tmp_path: Path) -> None:
    rates = packaged_rates()
    shared = MADE_UP | {"train": {"devices": 2}}
    one, two = (
        make_plan(make_config(options), rates, 4, PACKAGE, gpus=2)
        for options in (MADE_UP, shared)
    )
    name = "train_diffusion/eschweiler"
    before, after = ({s.name: s for s in plan.stages}[name] for plan in (one, two))
    assert after.minutes == pytest.approx(before.minutes / 2)
    assert after.core_hours == pytest.approx(before.core_hours)
    assert after.gpu_hours == pytest.approx(before.gpu_hours)
    assert "planned to share it evenly" in " ".join(two.notes)
    assert "planned to share it evenly" not in " ".join(one.notes)
    # A finished run tells what one process would take.
    path = tmp_path / "benchmarks/train_diffusion.tsv"
    write_run(tmp_path, rates, shared)
    whole = rates_from_run(tmp_path).devices["cpu"][name]
    assert path.exists()
    known = rates.devices["cpu"][name]
    assert whole.seconds_per_unit == pytest.approx(2 * known.seconds_per_unit)


def test_files_of_an_earlier_config_do_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, packaged_rates(), MADE_UP)
    before = rates_from_run(tmp_path)
    for name in ("check.003", "train_segmenter.stardist.sketch.2"):
        path = tmp_path / f"benchmarks/{name}.tsv"
        path.write_text("s\tmax_rss\n9999.0\t1\n")
        os.utime(path, (1, 1))
    for name in ("predict.generalist.none.0", "something_else"):
        (tmp_path / f"benchmarks/{name}.tsv").write_text("s\n9999.0\n")
    assert rates_from_run(tmp_path) == before


def test_memory_that_was_not_measured_is_unknown(tmp_path: Path) -> None:
    write_run(tmp_path, packaged_rates(), MADE_UP)
    (tmp_path / "benchmarks/report.tsv").write_text("s\tmax_rss\n0.2\tNA\n")
    assert rates_from_run(tmp_path).devices["cpu"]["report"].max_rss_mb is None


@pytest.mark.parametrize("name", ["config.yaml", "report.html", "benchmarks"])
def test_a_run_that_is_not_finished_is_refused(name: str, tmp_path: Path) -> None:
    write_run(tmp_path, packaged_rates(), MADE_UP)
    (tmp_path / name).rename(tmp_path / "away")
    with pytest.raises(PhantomscopeError, match=f"has no {name}") as caught:
        open_run(tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize("text", ["", "s\n", "s\n-\n", "max_rss\n5\n"])
def test_a_broken_benchmark_file_is_named(text: str, tmp_path: Path) -> None:
    write_run(tmp_path, packaged_rates(), MADE_UP)
    path = tmp_path / "benchmarks/check.001.tsv"
    path.write_text(text)
    with pytest.raises(PhantomscopeError, match="how long") as caught:
        rates_from_run(tmp_path)
    assert caught.value.where == str(path)


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
