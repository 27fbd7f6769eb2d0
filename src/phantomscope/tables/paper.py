"""The tables of Eschweiler & Stegmaier 2023, published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from phantomscope.config.appearance import MAIN_BINS
from phantomscope.config.load import load_config
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.paper_cells import dice_rows
from phantomscope.tables.published import (
    DEFINITIONS,
    beside,
    load_published,
    published_sd,
)
from phantomscope.tables.results import ResultRow, dataset_name, number

PAPER = "eschweiler"
FORWARD, BACKWARD = Path("tables/forward.csv"), Path("tables/backward.csv")
ORGANISMS = {
    "ath": "A. thaliana", "ce": "C. elegans", "tric": "T. castaneum",
    "gowt1": "GOWT1 stem cells", "hela": "HeLa",
}  # fmt: skip
# The paper's own images, by their names among the public data sets.
OWN_SETS = {
    "ath": "ath_meristem", "ce": "ctc_ce", "tric": "ctc_tric", "gowt1": "ctc_gowt1",
    "hela": "ctc_hela",
}  # fmt: skip
SAME = "the paper's data and scale"
TABLES = ("fig2", "fig3", "sec4", "pareto")
# Names of metrics that mean something else in another table.
RENAMED = {"dice": "fidelity_dice"}


@dataclass(frozen=True)
class Part:
    """The results of one organism.

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
                "this config does not say which organism of the paper it is about",
                where=self.root / "config.yaml",
                fix="name it",
                example="appearance:\n  organism: hela",
            )
        return str(self.config.appearance.organism)

    @property
    def data_kind(self) -> str:
        """What the images are, as rows say it.

        Raises
        ------
        PhantomscopeError
            If they are said to be the paper's own, but are another data set.
        """
        kind, source = self.config.appearance.data_kind, self.config.source
        if kind == "real" and source.dataset != OWN_SETS[self.organism]:
            raise PhantomscopeError(
                f"these are not the paper's images of {ORGANISMS[self.organism]}",
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
        return ResultRow(
            id=identifier or name, experiment=self.config.name,
            dataset=dataset_name(self.root, self.config), metric=metric,
            condition=condition, method=method, value=value, ci_low=interval[0],
            ci_high=interval[1], n=n, unit_of_n=unit, seed=str(self.config.seed),
            data_kind=self.data_kind, scale=self.config.scale, source=source,
        )  # fmt: skip


Ids = Mapping[tuple[str, str, str], str]


def published_ids(published: Sequence[ResultRow]) -> Ids:
    """Return the id of each published (organism, metric, condition)."""
    return {(row.dataset, row.metric, row.condition): row.id for row in published}


def forward_rows(part: Part, ids: Ids) -> list[ResultRow]:
    """Return the distances of noised sketches from noised images; empty if not run."""
    if not (part.root / FORWARD).exists():
        return []
    rows = []
    for line in read_table(part.root / FORWARD).to_dict("records"):
        main = line["bins"] == MAIN_BINS
        condition = f"t{line['t']}" + ("" if main else f", {line['bins']} bins")
        key = ids.get((part.organism, line["metric"], condition), "")
        rows.append(part.row(
            line["metric"], condition, f"{line['bins']} bins", line["value"],
            (line["ci_low"], line["ci_high"]), int(line["groups"]), "image group",
            FORWARD.name, key,
        ))  # fmt: skip
    return rows


def backward_rows(part: Part, ids: Ids) -> list[ResultRow]:
    """Return the means over images of all that was brought back; empty if not run.

    A published value has the row of the ancestral sampler beside it where there is
    one, else that of our own; the other has a row of its own.
    """
    if not (part.root / BACKWARD).exists():
        return []
    table = read_table(part.root / BACKWARD).fillna({"sampler": ""})
    evaluate, rows = part.config.evaluate, []
    taken: set[str] = set()
    keys = ["input", "t", "metric", "sampler", "steps"]
    # `ddpm` with all steps comes first: it is what the paper has.
    table = table.assign(rank=-table["steps"]).sort_values(
        ["input", "t", "rank"], kind="stable"
    )
    for (which, t, metric, sampler, steps), found in table.groupby(keys, sort=False):
        one = bootstrap_interval(
            list(found["value"].astype(float)), lambda values: float(np.mean(values)),
            groups=list(found["group"]), resamples=evaluate.resamples,
            confidence=evaluate.confidence, seed=part.config.seed,
        )  # fmt: skip
        condition = f"{which}_t{t}" if t else str(which)
        key = ids.get((part.organism, metric, condition), "")
        key = "" if key in taken else key
        taken.add(key)
        method = f"{sampler}, {steps} steps" if t else "none"
        rows.append(part.row(
            RENAMED.get(metric, metric), condition, method, one.value,
            (one.low, one.high), one.n_groups, "image group", BACKWARD.name, key,
        ))  # fmt: skip
    return rows


def pareto_table(parts: Sequence[Part]) -> pd.DataFrame:
    """Return label fidelity and realism of what came back of sketches.

    Returns
    -------
    DataFrame
        sampler, steps, t; fidelity (better if high), spectrum and bd_texture (better
        if low), means over images; organism, data_kind, dataset, scale; fidelity_is:
        which measure; efficient: no other time of the same sampler is at least as good
        in fidelity and spectrum and better in one. (In a small image bd_texture is
        soon as low as that of two halves of one.)
    """
    found = []
    for part in parts:
        if not (part.root / BACKWARD).exists():
            continue
        table = read_table(part.root / BACKWARD)
        fidelity = "dice" if part.config.appearance.mask_outside else "f1"
        table = table[table["input"] == "sketch"]
        wide = table.pivot_table("value", ["sampler", "steps", "t"], "metric")
        wide = wide.reset_index().rename(columns={fidelity: "fidelity"})
        # The ancestral sampler has as many steps as its time: one curve all the same.
        for _, curve in wide.groupby("sampler"):
            names = ["sampler", "steps", "t", "fidelity", "spectrum", "bd_texture"]
            kept = curve[names].assign(
                organism=part.organism, data_kind=part.data_kind,
                dataset=dataset_name(part.root, part.config), scale=part.config.scale,
                fidelity_is=fidelity,
            )  # fmt: skip
            points = kept[["fidelity", "spectrum"]].to_numpy() * [-1, 1]
            found.append(kept.assign(efficient=non_dominated(points)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def non_dominated(points: np.ndarray) -> list[bool]:
    """Tell which points (n, m) no other one beats; lower is better in each column."""
    return [not any((q <= p).all() and (q < p).any() for q in points) for p in points]


def load_parts(roots: Sequence[Path]) -> dict[str, Part]:
    """Read the configs of results folders, each of another organism.

    Raises
    ------
    PhantomscopeError
        If one does not say its organism, or two are of the same.
    """
    found: dict[str, Part] = {}
    for part in map(Part.load, roots):
        if part.organism in found:
            raise PhantomscopeError(
                f"two results are of {ORGANISMS[part.organism]}",
                where=f"{found[part.organism].root}, {part.root}",
                fix="give one folder for each organism",
            )
        found[part.organism] = part
    return found


def paper_tables(parts: Mapping[str, Part]) -> dict[str, pd.DataFrame]:
    """Return fig2, fig3, sec4 and pareto.

    Parameters
    ----------
    parts : mapping of str to Part
        By the key of the organism. What is absent is "not run" in the tables.
    """
    published = load_published(PAPER)
    ids = published_ids(published)
    forward = [row for part in parts.values() for row in forward_rows(part, ids)]
    back = {key: backward_rows(part, ids) for key, part in parts.items()}
    others = [row for key, rows in back.items() if key != "ath" for row in rows]

    def of(source: str) -> list[ResultRow]:
        return [row for row in published if row.source.startswith(source)]

    ratio, cells, spread = dice_rows(list(parts.values()), ids, of("Section 4"))
    sec4 = beside([*of("Section 4"), *ratio], cells)
    known = {row.id: published_sd(row) for row in of("Section 4")}
    sec4.insert(6, "published_sd", sec4["id"].map(known))
    sec4.insert(8, "sd", sec4["id"].map(spread))
    return {
        "fig2": beside(of("Figure 2"), forward + back.get("ath", [])),
        "fig3": beside(of("Figure 3"), others),
        "sec4": sec4,
        "pareto": pareto_table(list(parts.values())),
    }


def write_paper_tables(parts: Mapping[str, Path], out: Path) -> None:
    """Write fig2, fig3, sec4 and pareto as CSV and Markdown.

    Parameters
    ----------
    parts : mapping of str to Path
        Key of each organism to its folder below ``results/``.
    out : Path
        Folder of the tables.

    Raises
    ------
    PhantomscopeError
        If a folder is of another organism, or a table in it is broken.
    """
    loaded = load_parts(list(parts.values()))
    for key, part in loaded.items():
        if parts.get(key) != part.root:
            raise PhantomscopeError(
                f"this folder is of {ORGANISMS[key]}, not of what it is given for",
                where=part.root / "config.yaml",
                fix="give each organism its own folder",
            )
    write_files(loaded, [out / f"{n}{end}" for n in TABLES for end in (".csv", ".md")])


def write_files(parts: Mapping[str, Part], files: Sequence[Path]) -> None:
    """Write tables into files that are named after them, such as ``fig2.md``.

    Raises
    ------
    PhantomscopeError
        If a file has another name.
    """
    for path in files:
        if path.stem not in TABLES or path.suffix not in (".csv", ".md"):
            raise PhantomscopeError(
                "there is no such table of the paper",
                where=path,
                fix=f"name .csv and .md files after {', '.join(TABLES)}",
            )
    tables = paper_tables(parts)
    levels = sorted({part.config.evaluate.confidence for part in parts.values()})
    level = " or ".join(f"{100 * value:g}%" for value in levels)
    for path in files:
        table = tables[path.stem]
        if path.suffix == ".csv":
            write_text(path, table.to_csv(index=False))
        else:
            lines = (
                _pareto_text(table) if path.stem == "pareto" else _text(table, level)
            )
            write_text(path, "\n".join(lines) + "\n")


def _value(value: float, low: float, high: float, sd: float) -> str:
    """Format for people: three digits, with deviation and interval if there are."""
    if math.isnan(value):
        return "–"
    text = number(value, 3) + ("" if math.isnan(sd) else f" ± {sd:.3f}")
    return text if math.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"


def _text(table: pd.DataFrame, level: str) -> list[str]:
    """Return the published values with ours beside them, then ours alone."""
    ours = f"ours [{level} CI]" if level else "ours"
    beside_ours, alone = [], []
    for row in table.to_dict("records"):
        nan = math.nan
        mine = _value(row["ours"], row["ci_low"], row["ci_high"], row.get("sd", nan))
        count = f"{row['n']} {row['unit_of_n']}" if row["n"] else "–"
        tail = (mine, count, row["method"] or "–", row["remark"] or SAME)
        if math.isnan(row["published"]):
            place = str(row["id"]).split("/")[0]
            alone.append((place, row["metric"], row["condition"], *tail))
            continue
        theirs = _value(row["published"], nan, nan, row.get("published_sd", nan))
        where = (row["id"], ORGANISMS.get(row["dataset"], "–"))
        beside_ours.append((*where, row["metric"], row["condition"], theirs, *tail))
    titles = ("metric", "condition", ours, "n", "method", "remark")
    lines = _markdown(("id", "data set", *titles[:2], "published", *titles[2:]),
                      beside_ours)  # fmt: skip
    if alone:
        lines += ["", "Ours that the paper does not have:", ""]
        lines += _markdown(("experiment", *titles), alone)
    said = dict(zip(table["metric"], table["definition"], strict=True))
    return [*lines, "", *(f"- `{name}`: {text}" for name, text in said.items())]


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [
        "| " + " | ".join(map(str, cells)) + " |" if cells is not None else
        "|" + "---|" * len(titles)
        for cells in (titles, None, *rows)
    ]  # fmt: skip


def _pareto_text(table: pd.DataFrame) -> list[str]:
    if not len(table):
        return ["Not run."]
    rows = [
        [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in table.to_dict("records")
    ]
    return [
        *_markdown(list(table.columns), rows), "",
        "What came back of the sketches of annotated test images, noised to t; means "
        "over images.", "",
        f"- `fidelity` is `f1`: {DEFINITIONS['f1']}",
        f"- or `dice`, where a part of the cells is annotated: "
        f"{DEFINITIONS['fidelity_dice']}",
        f"- `bd_texture`: {DEFINITIONS['bd_texture']}",
        f"- `spectrum`: {DEFINITIONS['spectrum']}",
        "- `efficient`: no other t is at least as good in fidelity and `spectrum` "
        "and better in one of them.",
    ]  # fmt: skip
