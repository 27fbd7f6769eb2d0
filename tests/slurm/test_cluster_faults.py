"""Faults of a cluster: the same command ends with the same bits.

Each test starts from the same finished first steps, does harm while a job runs, and
compares with a run without SLURM that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from benchmarks.resume import same_weights
from tests.slurm.host import wait_for

from phantomscope.images.imageset import ImageSet

pytestmark = pytest.mark.slurm

RESULTS = Path("results/faults")
MODEL, SHARD = RESULTS / "diffusion/model.pt", RESULTS / "synthetic/shard-000"
STATE = RESULTS / "diffusion/model.pt.state"
LOG = RESULTS / "logs/train_diffusion.log"
JOURNAL = RESULTS / "synthetic/.shard-000.partial/journal.jsonl"
# Some ten seconds of training and of synthesis, saved often.
CONFIG = {
    "experiment": "faults",
    "scale": "smoke",
    "simulate": {"images": 24, "size": [96, 112], "shards": 1},
    "fit": {"calibration_rounds": 1},
    "network": {"preset": "small"},
    "train": {"steps": 160, "batch_size": 4, "patch": 32, "warmup": 10,
              "checkpoint_every": 5, "device": "cpu"},
    "start": {"value": 300, "candidates": [300], "images": 1},
    "synthesise": {"steps": 4, "tile": 64, "overlap": 8, "device": "cpu"},
}  # fmt: skip
OPTIONS = ("--configfile", "faults.yaml")


@pytest.fixture(scope="module")
def begun(clone):
    """A clone in which everything before the training is finished."""
    (clone.folder / "faults.yaml").write_text(yaml.safe_dump(CONFIG))
    clone.start(
        "--cores", 2, "--profile", "none", *OPTIONS, "--",
        RESULTS / "sketch.yaml", RESULTS / "sketches/shard-000",
    ).finish()  # fmt: skip
    return clone


@pytest.fixture(scope="module")
def trained(begun, tmp_path_factory):
    """A copy in which training went on without SLURM, undisturbed."""
    copy = begun.copy(tmp_path_factory.mktemp("trained") / "clone")
    copy.start(
        "--cores", 2, "--profile", "none", *OPTIONS, "--", RESULTS / "start.json"
    ).finish()
    return copy


@pytest.fixture(scope="module")
def reference(trained, tmp_path_factory):
    """A copy with the undisturbed images as well."""
    copy = trained.copy(tmp_path_factory.mktemp("reference") / "clone")
    copy.start("--cores", 2, "--profile", "none", *OPTIONS, "--", SHARD).finish()
    return copy


@pytest.fixture
def training(cluster, begun, tmp_path):
    """A copy that has to train."""
    return begun.copy(tmp_path / "clone")


@pytest.fixture
def synthesis(cluster, trained, tmp_path):
    """A copy that has to synthesise."""
    return trained.copy(tmp_path / "clone")


def hashes(folder: Path) -> dict[str, str]:
    images = ImageSet.open(folder)
    images.verify()
    return dict(images.table["sha256"] + images.table["mask_sha256"])


def assert_same_weights(clone, trained) -> None:
    one, other = ((c.folder / MODEL).parent for c in (clone, trained))
    assert same_weights(one, other)


def assert_same_images(clone, reference) -> None:
    found = hashes(clone.folder / SHARD)
    assert len(found) == CONFIG["simulate"]["images"]
    assert found == hashes(reference.folder / SHARD)


def metrics(clone) -> list[dict[str, float]]:
    """What the training wrote down at each saved step."""
    file = clone.folder / STATE / "metrics.jsonl"
    return [json.loads(line) for line in file.open()] if file.exists() else []


def slices(clone) -> int:
    """In how many pieces the model was trained; the clock of each starts anew."""
    seconds = [line["seconds"] for line in metrics(clone)]
    return 1 + sum(after < before for before, after in pairwise(seconds))


def images_saved(clone) -> int:
    file = clone.folder / JOURNAL
    return file.read_bytes().count(b"\n") if file.exists() else 0


def start_training(cluster, clone, *options: object):
    """Submit the training; return the run and its job when some steps are saved."""
    run = clone.submit(*options, *OPTIONS, "--", MODEL)
    before = len(metrics(clone))
    wait_for("saved steps", lambda: len(metrics(clone)) > before + 1)
    return run, cluster.running("rule_train_diffusion")[0]


def start_synthesis(cluster, clone, *options: object):
    """Submit the synthesis; return the run and its job when some images are saved."""
    run = clone.submit(*options, *OPTIONS, "--", SHARD)
    wait_for("saved images", lambda: images_saved(clone))
    return run, cluster.running("rule_synthesise")[0]


def states(cluster, since: int) -> list[str]:
    """First words of the states of all later jobs: a user follows ``CANCELLED by``."""
    return [job.state.split()[0] for job in cluster.jobs(since)]


def test_interrupted_then_cancelled(cluster, training, trained):
    """Ctrl-C cancels the job; a cancelled job is sent again. Training goes on."""
    since = cluster.last_id()
    run, job = start_training(cluster, training)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(600) != 0
    wait_for("the end of the job", lambda: job not in cluster.running("rule_"))

    run, job = start_training(cluster, training)
    cluster.command("scancel", job)
    run.finish()
    assert states(cluster, since) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert slices(training) == 3
    assert_same_weights(training, trained)


@contextmanager
def stalled(clone, name: str) -> Iterator[None]:
    """Stop the process of a script for a while, as a stalled file system does."""
    process = script_process(clone, name)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def script_process(clone, name: str) -> int:
    """Find the process that runs a rule's script of this clone."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            place = (folder / "cwd").readlink()
        except OSError:  # gone, or not ours to look at
            continue
        own = place == clone.folder.resolve()
        if own and any(word.endswith(f".{name}.py") for word in words):
            return int(folder.name)
    raise AssertionError(f"{name} does not run")


def test_time_limit_while_the_controller_is_away(cluster, training, trained):
    """A job stops cleanly before its limit and is sent again for one more slice."""
    since = cluster.last_id()
    limit = ("--set-resources", "train_diffusion:runtime=1")
    run, job = start_training(cluster, training, *limit)
    # The file system stalls, and the controller restarts at the same time.
    with stalled(training, "train_diffusion"):
        cluster.do("crash", "slurmctld")
        time.sleep(26)
        cluster.do("start", "slurmctld")
    run.finish()
    assert states(cluster, since) == ["FAILED", "COMPLETED"]
    [log] = (training.folder / "logs/slurm").rglob(f"{job}.log")
    assert "stopped before the time limit of this job" in log.read_text()
    assert slices(training) == 2
    assert_same_weights(training, trained)


def test_too_little_memory(cluster, training, trained):
    """SLURM kills the job; the next attempt asks for more."""
    since = cluster.last_id()
    training.submit(
        *OPTIONS, "--set-resources", "train_diffusion:mem_mb=attempt*500", "--", MODEL
    ).finish()
    first, second = cluster.jobs(since)
    assert first.state != "COMPLETED"
    assert second.state == "COMPLETED"
    assert "mem=500M" in first.resources
    assert "mem=1000M" in second.resources
    assert_same_weights(training, trained)


def test_lost_node(cluster, synthesis, reference):
    """The shard goes on at another node, from the images that were saved."""
    since = cluster.last_id()
    run, job = start_synthesis(cluster, synthesis)
    node = cluster.node(job)
    cluster.lose(node)
    try:
        run.finish()
    finally:
        cluster.mend(node)
    first, second = cluster.jobs(since)
    assert (first.state, second.state) == ("NODE_FAIL", "COMPLETED")
    assert first.node == node != second.node
    assert_same_images(synthesis, reference)


def twin_waits(clone) -> bool:
    """Whether a second job waits until the first no longer writes the model."""
    log = clone.folder / LOG  # wiped when a job starts
    return log.exists() and "waiting" in log.read_text()


def test_stranded_job(cluster, training, trained):
    """The node is lost to SLURM but works on: its twin waits, it does not interfere."""
    since = cluster.last_id()
    run, job = start_training(cluster, training)
    node = cluster.node(job)
    with stalled(training, "train_diffusion"):
        cluster.lose(node, "strand")
        wait_for("the twin, waiting", lambda: twin_waits(training))
    run.finish()
    cluster.mend(node)
    # One twin, or on a busy machine sometimes two.
    first, *twins = states(cluster, since)
    assert first == "NODE_FAIL"
    assert set(twins) == {"COMPLETED"}
    assert_same_weights(training, trained)


def test_killed_snakemake(cluster, training, trained):
    """Its job goes on; that of the same command waits for it."""
    since = cluster.last_id()
    run, _ = start_training(cluster, training)
    run.kill()
    with stalled(training, "train_diffusion"):
        again = training.submit(*OPTIONS, "--", MODEL)
        wait_for("the twin, waiting", lambda: twin_waits(training))
    text = again.finish()
    assert "removing a lock that a killed run left" in text
    assert states(cluster, since) == ["COMPLETED", "COMPLETED"]
    assert_same_weights(training, trained)


def test_preempted_job(cluster, synthesis, reference):
    """SLURM queues it again by itself."""
    since = cluster.last_id()
    run, job = start_synthesis(
        cluster, synthesis, "--workflow-profile", "slurm/preemptible",
        "--default-resources", "slurm_partition=spare",
    )  # fmt: skip
    urgent = ("sbatch", "--partition=main", "--mem=500", "--output=/dev/null")
    cluster.command(*urgent, "--nodelist", cluster.node(job), "--wrap", "sleep 3")
    run.finish()
    lives = [life.state for life in cluster.jobs(since) if life.id == job]
    assert lives == ["PREEMPTED", "COMPLETED"]
    assert_same_images(synthesis, reference)
