"""The main job and the faults of a cluster, through a real SLURM on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laboratory import ENVIRONMENT, ROOT


@dataclass(frozen=True)
class Test:
    """One test: its name, file, seconds, and whether it passed."""

    name: str
    file: str
    seconds: float
    passed: bool


@dataclass(frozen=True)
class Result:
    """All tests, and what the main job cost."""

    tests: list[Test]
    costs: dict[str, float]

    def of(self, file: str) -> list[Test]:
        """Return the tests of one file."""
        return [test for test in self.tests if test.file == file]


def run(folder: Path) -> Result:
    """Run `tests/slurm`, which fails where there can be no cluster."""
    report, costs = folder / "slurm.xml", folder / "costs.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "tests/slurm", "-q", f"--junitxml={report}"],
        cwd=ROOT, check=False,
        env=os.environ | ENVIRONMENT | {
            "PHANTOMSCOPE_SLURM_TESTS": "required",
            "PHANTOMSCOPE_SLURM_RECORD": str(costs),
        },
    )  # fmt: skip
    return read(report, costs)


def read(report: Path, costs: Path) -> Result:
    """Read what pytest wrote with ``--junitxml``, and the costs of the main job."""
    tests = [
        Test(
            str(case.get("name")),
            str(case.get("classname")).rsplit(".", 1)[-1],
            float(case.get("time", "0")),
            all(child.tag not in ("failure", "error", "skipped") for child in case),
        )
        for case in ElementTree.parse(report).iter("testcase")
    ]
    return Result(tests, json.loads(costs.read_text()) if costs.exists() else {})


def table(tests: list[Test]) -> str:
    """Return a table in Markdown, one row per fault."""
    lines = ["| fault on SLURM | recovered, artefacts equal | s |", "|---|---|--:|"]
    for test in tests:
        name = test.name.removeprefix("test_").replace("_", " ")
        lines.append(f"| {name} | {'yes' if test.passed else '**no**'} | "
                     f"{test.seconds:.0f} |")  # fmt: skip
    return "\n".join(lines) + "\n"
