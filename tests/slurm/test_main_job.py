"""The main job at smoke scale, from a fresh clone, through a real SLURM."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slurm

RESULTS = Path("results/demo-smoke")
# `TensorFlow` of StarDist is that for the CPU.
ON_GPU = re.compile(
    r"rule_(train_diffusion|choose_start|synthesise_.*|train_segmenter_.*cellpose_.*)"
)
# The benchmark takes the whole demo; with one arm every rule becomes jobs as well.
RECORD = os.environ.get("PHANTOMSCOPE_SLURM_RECORD")
SMOKE = "config/demo/smoke.yaml"
# Groups carry the names of their rules, not of their wildcards.
GROUPS = {
    "rule_draw_photograph_simulate": 2,
    "rule_measure_evaluate_predict": 7 if RECORD else 3,
    "rule_measure_evaluate_predict_generalist": 1,
}


@pytest.fixture(scope="module")
def config(clone):
    """The file to run."""
    if RECORD:
        return SMOKE
    options = yaml.safe_load((clone.folder / SMOKE).read_text())
    options["segment"]["arms"] = ["synthetic"]
    (clone.folder / "one-arm.yaml").write_text(yaml.safe_dump(options))
    return "one-arm.yaml"


@pytest.fixture(scope="module")
def finished(cluster, clone, config):
    """The output of a finished run, and how long it took."""
    begin = time.monotonic()
    run = clone.submit("--configfile", config)
    return run.finish(1800), time.monotonic() - begin


@pytest.fixture(scope="module")
def jobs(cluster, finished):
    return cluster.jobs()


def seconds_in_rules(folder: Path, local: set[str]) -> float:
    """Wall seconds of all rules' scripts, but those that ran beside Snakemake."""
    total = 0.0
    for path in (folder / "benchmarks").rglob("*.tsv"):
        rule = path.relative_to(folder / "benchmarks").parts[0].split(".")[0]
        if rule not in local:
            with path.open() as stream:
                total += float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    return total


def test_everything_is_there(clone, finished):
    text, _ = finished
    assert re.search(r"(\d+) of \1 steps \(100%\) done", text)
    assert (clone.folder / RESULTS / "report.html").stat().st_size > 100_000
    assert "Error in rule" not in text


def test_every_job_succeeded_at_the_first_attempt(jobs, finished):
    text, _ = finished
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert len({job.id for job in jobs}) == len(jobs)
    assert len(jobs) == text.count("has been submitted with SLURM jobid")


def test_jobs_tell_what_they_are(jobs):
    assert all(job.name.startswith("phantomscope_") for job in jobs)
    comments = [job.comment for job in jobs]
    for group, count in GROUPS.items():
        assert comments.count(group) == count
    assert "rule_synthesise_wildcards_001" in comments
    assert "rule_train_segmenter_wildcards_cellpose_synthetic_0" in comments
    single = [comment for comment in comments if comment not in GROUPS]
    assert len(set(single)) == len(single)


def test_light_steps_are_no_jobs(jobs):
    rules = " ".join(job.comment for job in jobs)
    for name in ("write_config", "gather", "tabulate"):
        assert name not in rules


def test_jobs_ask_for_gpu_and_memory(jobs):
    for job in jobs:
        if ON_GPU.fullmatch(job.comment):
            assert "gres/gpu=1" in job.resources, job
            assert job.node != "node1"  # which has none
        elif job.comment not in GROUPS:
            assert "gpu" not in job.resources, job
        assert int(re.search(r"mem=(\d+)[MG]", job.resources)[1]) >= 1, job
    assert any("gres/gpu=1" in j.resources for j in jobs if "predict" in j.comment)


def test_logs_of_successful_jobs_are_gone(clone, finished):
    assert list((clone.folder / "logs").rglob("*.log")) == []


def test_the_same_command_does_nothing(clone, config, finished):
    run = clone.submit("--configfile", config)
    assert "Nothing to be done" in run.finish()


def test_costs_are_recorded(clone, jobs, finished):
    """A job costs less than ten seconds beside its work, on a host that is not busy."""
    text, seconds = finished
    local = set(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", text, re.M))
    local -= {
        name for job in jobs for name in local if re.search(rf"_{name}\b|_{name}_",
                                                            job.comment)
    }  # fmt: skip
    inside = seconds_in_rules(clone.folder / RESULTS, local)
    overhead = (sum(job.seconds for job in jobs) - inside) / len(jobs)
    record = {
        "seconds": round(seconds, 1),
        "jobs": len(jobs),
        "overhead_per_job_s": round(overhead, 2),
    }
    assert 0 < overhead < 60
    if RECORD:
        Path(RECORD).write_text(json.dumps(record) + "\n")
