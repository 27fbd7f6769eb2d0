"""What `phantomscope verify` found, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from phantomscope.errors import PhantomscopeError

_MOST_SHOWN = 100


@dataclass
class Tally:
    """What was looked at of one stage."""

    records: int = 0
    files: int = 0
    images: int = 0
    problems: int = 0


@dataclass
class Report:
    """What `verify` found.

    Attributes
    ----------
    results : Path
        The folder.
    quick : bool
        Whether pixels were left out.
    stages : dict
        Stage to `Tally`, in the order in which they ran.
    problems : list of PhantomscopeError
        Each with what, where and how to mend it.
    unaccounted, unrecorded, partial, freed : list of Path
        Files that no record and no manifest names, inputs without a record of their
        own, what stages left that were stopped, and what was freed to save disk.
    """

    results: Path
    quick: bool
    stages: dict[str, Tally] = field(default_factory=dict)
    problems: list[PhantomscopeError] = field(default_factory=list)
    unaccounted: list[Path] = field(default_factory=list)
    unrecorded: list[Path] = field(default_factory=list)
    partial: list[Path] = field(default_factory=list)
    freed: list[Path] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded; warnings do not count."""
        return not self.problems

    def tally(self, stage: str) -> Tally:
        """Return the counts of a stage."""
        return self.stages.setdefault(stage, Tally())

    def render(self) -> str:
        """Return problems, warnings and one line per stage, as they are printed."""
        lines = _shortened([str(problem) for problem in self.problems])
        for paths, what in (
            (self.unaccounted, "no record and no manifest names this file"),
            (self.unrecorded, "no record says how this input was made"),
            (self.partial, "left by a stage that was stopped, or that is running"),
            (self.freed, "not there any more; what was made of it is"),
        ):
            lines += _shortened([f"warning: {path}: {what}" for path in paths])
        width = max(len(name) for name in (*self.stages, "stage"))
        lines.append(f"{'stage':{width}}  records    files   images")
        for name, tally in self.stages.items():
            numbers = f"{tally.records:7}  {tally.files:7}  {tally.images:7}"
            verdict = f"problems: {tally.problems}" if tally.problems else "ok"
            lines.append(f"{name:{width}}  {numbers}  {verdict}")
        end = f"problems: {len(self.problems)}" if self.problems else "all as recorded"
        note = "; pixels were not compared" if self.quick else ""
        return "\n".join([*lines, f"{self.results}: {end}{note}"])


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_SHOWN
    return lines[:_MOST_SHOWN] + ([f"... and {more} more of these"] if more > 0 else [])
