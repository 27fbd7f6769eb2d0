"""Benchmark rows: one JSON list per area, and the table made of them."""

from __future__ import annotations

import json
import operator
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from phantomscope.images.files import write_text

FOLDER = Path(__file__).resolve().parent
COMPARE = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt,
    "=": operator.eq,
}  # fmt: skip


@dataclass
class Row:
    """One figure and its goal.

    Attributes
    ----------
    id : str
        Fixed name.
    what, against : str
        What was measured, and on or against what.
    value, unit :
        The figure.
    goal : str
        Such as ``>= 1``; ``none`` of a figure that only stands beside another.
    floor : str
        The least that is possible, or what the figure consists of.
    command : str
        Gives the figure again.
    """

    id: str
    what: str
    against: str
    value: float
    unit: str
    goal: str
    command: str
    floor: str = ""
    baseline: float | None = None
    ratio: float | None = None
    device: str = ""
    commit: str = ""
    met: bool = False

    @property
    def mark(self) -> str:
        """Whether the goal is met, in words; a dash without one."""
        return "-" if self.goal == "none" else "yes" if self.met else "**no**"

    def __post_init__(self) -> None:
        if self.goal != "none":
            sign, limit = self.goal.split()
            self.met = bool(COMPARE[sign](self.value, float(limit)))
        self.device = self.device or f"{platform.machine()}, two CPU cores"
        self.commit = self.commit or commit()


def commit() -> str:
    """Short hash of the checked-out commit."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=FOLDER, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def save(area: str, rows: list[Row]) -> None:
    """Write the rows of an area and renew the table."""
    content = json.dumps([asdict(row) for row in rows], indent=2)
    write_text(FOLDER / f"{area}.json", content + "\n")
    write_text(FOLDER / "README.md", markdown())


def load() -> list[Row]:
    """Read the rows of all areas."""
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        rows += [Row(**row) for row in json.loads(path.read_text())]
    return rows


def curves() -> list[str]:
    """Point to the curves of quality against steps that are there."""
    links = [
        f"{path.parent.name} ([table](results/{path.parent.name}/quality.csv), "
        f"[figure](results/{path.parent.name}/quality.png))"
        for path in sorted(FOLDER.glob("results/*/quality.csv"))
    ]
    if not links:
        return []
    return [f"Quality against steps, for each sampler: {'; '.join(links)}.", ""]


def markdown() -> str:
    """Return the table of all rows."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench` from `benchmarks/*.json`. A goal that is not met stays "
        "here with its true value.",
        "",
        *curves(),
        "| id | what | on | value | goal | met | commit | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in load():
        value = f"{row.value:.4g} {row.unit}".strip()
        lines.append(
            f"| {row.id} | {row.what} | {row.against}; {row.device} | {value} | "
            f"{row.goal} | {row.mark} | {row.commit} | `{row.command}` |"
        )
    return "\n".join(lines) + "\n"
