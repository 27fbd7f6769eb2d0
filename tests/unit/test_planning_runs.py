"""Rates against runs made up from them, and the plans made of rates."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from benchmarks.rates import Point, fit
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs import MADE_UP, PACKAGE, planned, write_run

from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.plan import CPU_BOUND, make_plan
from phantomscope.planning.rates import Rate, Rates, load_rates, packaged_rates
from phantomscope.planning.runs import open_run, rates_from_run

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
