"""The test cluster, a clone that runs on it, and its Snakemake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("cluster.sh")
# What `snakemake --profile slurm` needs of a clone.
TREE = ("Snakefile", "workflow", "scripts", "src", "config", "envs", "slurm")


def wait_for(what: str, condition: Callable[[], object], seconds: float = 600) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Job:
    """What SLURM says about one job, or about one life of a job that was requeued."""

    id: str
    name: str
    state: str
    seconds: int
    resources: str
    node: str
    comment: str


class Cluster:
    """The cluster that `cluster.sh` starts: three nodes of one CPU, two with a GPU."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            **os.environ,
            "CLUSTER_HOME": str(home),
            "CLUSTER_CPUS": "1",  # at most three jobs at once
            "CLUSTER_GPUS": "1",
            "CLUSTER_MEMORY": "20000",
            "CLUSTER_ACCOUNTING": "1",
        }

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Daemons outlive the script, so its output must not be a pipe to us.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                ["bash", str(SCRIPT), *arguments], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
            )  # fmt: skip
            output.seek(0)
            done.stdout = output.read().strip()
        return done

    def do(self, *arguments: str) -> None:
        """Run a command of the script."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout

    def command(self, *arguments: str) -> str:
        """Run a command of SLURM."""
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def running(self, comment: str) -> list[str]:
        """Ids of running jobs whose comment (rule and wildcards) begins so."""
        lines = self.command("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()
        return [i for i, text in map(str.split, lines) if text.startswith(comment)]

    def node(self, job: str) -> str:
        """Node of a running job."""
        return self.command("squeue", "-h", "-j", job, "-o", "%N").strip()

    def jobs(self, since: int = 0) -> list[Job]:
        """All jobs with an id above `since`, each life of a requeued job by itself."""
        fields = "jobid,jobname,state,elapsedraw,alloctres,nodelist,comment"
        text = self.command("sacct", "-X", "-D", "-n", "-P", "-o", fields)
        rows = [line.split("|") for line in text.splitlines()]
        return [Job(r[0], r[1], r[2], int(r[3]), *r[4:]) for r in rows
                if int(r[0]) > since]  # fmt: skip

    def last_id(self) -> int:
        """Id of the newest job."""
        return max((int(job.id) for job in self.jobs()), default=0)

    def lose(self, node: str, how: str = "crash") -> None:
        """Lose a node, and let the operator say so instead of waiting for timeouts."""
        self.do(how, node)
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=t")

    def mend(self, node: str) -> None:
        """Bring a lost node back; it may come back by itself, and resumes once only."""
        self.do("start", node)
        resume = ("scontrol", "update", f"nodename={node}", "state=resume")

        def back() -> bool:
            if "down" not in self.command("sinfo", "-h", "-n", node, "-o", "%T"):
                return True
            subprocess.run(resume, capture_output=True, check=False)
            return False

        wait_for(f"{node} is back", back)


class Clone:
    """A copy of the repository's tree; Snakemake runs in it as in a fresh clone."""

    # For the test only: the profile looks at jobs each 40 s.
    IMPATIENT = (
        "--slurm-init-seconds-before-status-checks", "1",
        "--max-status-checks-per-second", "10", "--latency-wait", "20",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder / "home"
        home.mkdir()
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "HOME": str(home),  # no weights of a generalist
            "CELLPOSE_LOCAL_MODELS_PATH": str(home),
        }

    @classmethod
    def of_repository(cls, folder: Path) -> Clone:
        folder.mkdir()
        for name in TREE:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, folder / name)
        return cls(folder)

    def copy(self, folder: Path) -> Clone:
        """With all results so far."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("home"))
        return type(self)(folder)

    def start(self, *arguments: object, **environment: str) -> Run:
        """Start Snakemake and do not wait."""
        command = [sys.executable, "-m", "snakemake", "--nocolor"]
        return Run(
            [*command, *map(str, arguments)], self.folder,
            self.environment | environment,
        )  # fmt: skip

    def submit(self, *arguments: object, **environment: str) -> Run:
        """Start `snakemake --profile slurm`, impatiently."""
        return self.start(
            "--profile", "slurm", *self.IMPATIENT, *arguments, **environment
        )


class Run:
    """A running Snakemake."""

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str]
    ) -> None:
        self.log = folder / f"run-{time.monotonic_ns()}.log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT,
                # A shell ignores Ctrl-C for what it runs in the background.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    @property
    def text(self) -> str:
        """Its output so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def finish(self, seconds: float = 900) -> str:
        """Wait for its success and return its output."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"Snakemake is not done after {seconds} s:\n{self.text}")
        assert self.process.returncode == 0, self.text
        return self.text
