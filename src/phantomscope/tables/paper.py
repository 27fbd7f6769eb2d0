"""What the tables and figures of all papers share: parts, rows, and their text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from phantomscope.config.load import load_config
from phantomscope.config.model import Config
from phantomscope.config.papers import PAPERS
from phantomscope.errors import PhantomscopeError
from phantomscope.tables.results import ResultRow, dataset_name, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME = "the paper's data and scale"
# Whole numbers from here on are counts.
WHOLE = 4
# Below this, three digits after the point say nothing.
SMALL = 0.0005


@dataclass(frozen=True)
class Part:
    """The results of one experiment of a paper.

    Attributes
    ----------
    root : Path
        Its folder below ``results/``.
    config : Config
        That of the run.
    """

    root: Path
    config: Config

    @classmethod
    def load(cls, root: Path) -> Part:
        """Read `config.yaml` of a results folder."""
        return cls(Path(root), load_config(Path(root) / "config.yaml"))

    @property
    def organism(self) -> str:
        """Key of the organism.

        Raises
        ------
        PhantomscopeError
            If the config does not say it.
        """
        if not self.config.appearance.organism:
            raise PhantomscopeError(
                "this config does not say which organism of a paper it is about",
                where=self.root / "config.yaml",
                fix="name it",
                example="appearance:\n  organism: hela",
            )
        return str(self.config.appearance.organism)

    @property
    def key(self) -> str:
        """The organism, and to how many training images it is cut, if it is."""
        most = self.config.split.most_train
        return self.organism if most is None else f"{self.organism}_{most}"

    @property
    def paper(self) -> str:
        """Key of the paper that the organism belongs to."""
        return next(
            k for k, about in PAPERS.items() if self.organism in about.organisms
        )

    @property
    def name(self) -> str:
        """Name of the organism, for people."""
        return PAPERS[self.paper].organisms[self.organism]

    @property
    def title(self) -> str:
        """Name of the organism, which says at once what its images are."""
        kind = self.config.data_kind
        return self.name if kind == "real" else f"{self.name} ({kind})"

    @property
    def word(self) -> str:
        """What to call images that were not synthesised."""
        return "image" if self.config.data_kind == "simulated" else "real"

    @property
    def data_kind(self) -> str:
        """What the images are, as rows say it.

        Raises
        ------
        PhantomscopeError
            If they are said to be the paper's own, but are another data set.
        """
        kind = self.config.appearance.data_kind
        own = PAPERS[self.paper].data_sets[self.organism]
        if kind == "real" and self.config.source_name != own:
            raise PhantomscopeError(
                f"these are not the paper's images of {self.name}",
                where=self.root / "config.yaml",
                fix="say `stand-in` or `simulated` in `appearance.data_kind`",
            )
        return str(kind)

    def row(
        self, metric: str, condition: str, method: str, value: float,
        interval: tuple[float, float], n: int, unit: str, source: str,
        identifier: str = "",
    ) -> ResultRow:  # fmt: skip
        """Make a row; without the id of a published one it gets one of its own."""
        name = f"{self.config.name}/{method}/{condition}/{metric}".replace(" ", "_")
        plates = self.config.source_name if self.config.translate.methods else ""
        return ResultRow(
            id=identifier or name, experiment=self.config.name,
            dataset=plates or dataset_name(self.root, self.config), metric=metric,
            condition=condition, method=method, value=value, ci_low=interval[0],
            ci_high=interval[1], n=n, unit_of_n=unit, seed=str(self.config.seed),
            data_kind=self.data_kind, scale=self.config.scale, source=source,
        )  # fmt: skip


Ids = Mapping[tuple[str, str, str], str]


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes
    ----------
    frame : DataFrame
        The CSV.
    text : callable
        ``text(frame, level)`` gives the lines of the Markdown; `level` is the
        confidence of the intervals, such as ``95%``.
    """

    frame: pd.DataFrame
    text: Callable[[pd.DataFrame, str], list[str]]


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes
    ----------
    draw : callable
        Draws it of the parts that have its data.
    needs : tuple of str
        What must exist below the folder of a part.
    absent : str
        What the figure says where no part has it. Empty: that is an error.
    of : callable
        Picks the parts that it is about; all by default.
    """

    draw: Callable[[Sequence[Part]], Figure]
    needs: tuple[str, ...]
    absent: str = ""
    of: Callable[[Sequence[Part]], list[Part]] = list


def published_ids(published: Sequence[ResultRow]) -> Ids:
    """Return the id of each published (organism, metric, condition)."""
    return {(row.dataset, row.metric, row.condition): row.id for row in published}


def load_parts(roots: Sequence[Path]) -> dict[str, Part]:
    """Read the configs of results folders of one paper, each another part of it.

    Returns
    -------
    dict
        By `Part.key`.

    Raises
    ------
    PhantomscopeError
        If one does not say its organism, two are of the same, or of two papers.
    """
    found: dict[str, Part] = {}
    for part in map(Part.load, roots):
        if part.key in found:
            raise PhantomscopeError(
                f"two results are of {part.name}",
                where=f"{found[part.key].root}, {part.root}",
                fix="give one folder for each organism",
            )
        found[part.key] = part
    papers = {part.paper: part for part in found.values()}
    if len(papers) > 1:
        raise PhantomscopeError(
            f"these are of two papers: {', '.join(papers)}",
            where=", ".join(str(part.root) for part in papers.values()),
            fix="give the parts of one paper",
        )
    return found


def _value(value: float, low: float, high: float, sd: float) -> str:
    """Format for people: three digits, with deviation and interval if there are."""
    if math.isnan(value):
        return "–"
    if value.is_integer() and abs(value) >= WHOLE and math.isnan(low):
        return f"{value:,.0f}"  # a count
    # A p-value that is small is not 0.
    small = 0 < abs(value) < SMALL
    text = (f"{value:.2g}" if small else number(value, 3)) + (
        "" if math.isnan(sd) else f" ± {sd:.3f}"
    )
    return text if math.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"


def beside_text(table: pd.DataFrame, level: str) -> list[str]:
    """Return what `published.beside` gives as Markdown, then ours alone."""
    organisms = {k: v for about in PAPERS.values() for k, v in about.organisms.items()}
    ours = f"ours [{level} CI]" if level else "ours"
    beside_ours, alone = [], []
    for row in table.to_dict("records"):
        nan = math.nan
        mine = _value(row["ours"], row["ci_low"], row["ci_high"], row.get("sd", nan))
        count = f"{row['n']} {row['unit_of_n']}" if row["n"] else "–"
        tail = (mine, count, row["method"] or "–", row["remark"] or SAME)
        if math.isnan(row["published"]):
            alone.append((row["experiment"], row["metric"], row["condition"], *tail))
            continue
        theirs = _value(row["published"], nan, nan, row.get("published_sd", nan))
        where = (row["id"], organisms.get(row["dataset"], "–"))
        beside_ours.append((*where, row["metric"], row["condition"], theirs, *tail))
    titles = ("metric", "condition", ours, "n", "method", "remark")
    lines = markdown(("id", "data set", *titles[:2], "published", *titles[2:]),
                      beside_ours)  # fmt: skip
    if alone:
        lines += ["", "Ours that the paper does not have:", ""]
        lines += markdown(("experiment", *titles), alone)
    said = dict(zip(table["metric"], table["definition"], strict=True))
    return [*lines, "", *(f"- `{name}`: {text}" for name, text in said.items())]


def markdown(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    return [
        "| " + " | ".join(map(str, cells)) + " |" if cells is not None else
        "|" + "---|" * len(titles)
        for cells in (titles, None, *rows)
    ]  # fmt: skip
