"""The measured results: one row per number, and the tables a person reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from phantomscope.config.arms import arm_description
from phantomscope.config.model import Config
from phantomscope.images.files import read_json, write_text
from phantomscope.measure.matching import threshold_keys
from phantomscope.tables.rows import (
    OBJECT_METRICS,
    Bootstrap,
    Floats,
    Method,
    load_methods,
    over_seeds,
)
from phantomscope.tables.style import TOOLS

COLUMNS = {
    "ap_0.50": "AP50",
    "ap_mean": "AP50:95",
    "precision_0.50": "precision",
    "recall_0.50": "recall",
    "f1_0.50": "F1",
    "pq_0.50": "PQ",
    "seg": "SEG",
    "dice": "Dice",
    "splits": "splits",
    "merges": "merges",
}


@dataclass(frozen=True)
class ResultRow:
    """One number and everything that is needed to judge it.

    Attributes
    ----------
    id : str
        Unique; tables are joins on it.
    experiment, dataset : str
        Folder below ``results/``, and where the images come from.
    metric : str
        Such as ``ap_0.50``.
    condition : str
        What the method was trained on, or for a ratio the two that are compared.
    method : str
        Segmentation tool.
    value, ci_low, ci_high : float
        NaN where there is none.
    n : int
        Number of resampled units.
    unit_of_n : str
        ``image group`` or ``object of one image``.
    seed : str
        Number of the training, or ``all`` for the mean over them.
    data_kind : str
        ``real`` or ``simulated``: what it was measured on.
    scale : str
        How large the run is.
    source : str
        File that it comes from; for an absent method the reason.
    """

    id: str
    experiment: str
    dataset: str
    metric: str
    condition: str
    method: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    unit_of_n: str
    seed: str
    data_kind: str
    scale: str
    source: str


def metric_names(config: Config) -> list[str]:
    """Return the metrics of the long table, in its order."""
    keys = threshold_keys(config.evaluate.thresholds)
    return [*(f"ap_{key}" for key in keys), *(c for c in COLUMNS if c != "ap_0.50")]


def dataset_name(root: Path, config: Config) -> str:
    """Return what to call the data in tables."""
    info = root / "prepared" / "info.json"
    known = read_json(info) if info.exists() else {}
    name = known.get("name") or known.get("source") or config.source.path
    return str(name or config.source.kind)


@dataclass(frozen=True)
class _Maker:
    """Fills in what all rows of an experiment share."""

    config: Config
    dataset: str
    bootstrap: Bootstrap | None

    def row(
        self, metric: str, method: str, condition: str, seed: str, source: str,
        value: float, interval: tuple[float, float], n: int | None = None,
    ) -> ResultRow:  # fmt: skip
        name = self.config.name
        what = condition.replace(" / ", "_over_").replace(" ", "_")
        known = self.bootstrap
        return ResultRow(
            id="/".join((name, method, what, metric.replace(" ", "_"), seed)),
            experiment=name,
            dataset=self.dataset,
            metric=metric,
            condition=condition,
            method=method,
            value=value,
            ci_low=interval[0],
            ci_high=interval[1],
            n=n if n is not None else (known.n if known else 0),
            unit_of_n=known.unit if known else "",
            seed=seed,
            data_kind=self.config.data_kind,
            scale=self.config.scale,
            source=source,
        )


def segmentation_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return all numbers measured on the real held-out images.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Thresholds, resamples and confidence of `evaluate`.

    Returns
    -------
    list of ResultRow
        Per tool, arm and metric one row per seed and one with seed ``all``, the mean
        over the seeds; then ratios of AP at IoU 0.5. An absent method has one row
        whose value is NaN. Empty without scores.

    Raises
    ------
    PhantomscopeError
        If a table of scores is broken or two belong to different images.
    """
    root = Path(root)
    methods = load_methods(root)
    scored = [method for method in methods if method.images]
    bootstrap = Bootstrap(scored[0], config) if scored else None
    maker = _Maker(config, dataset_name(root, config), bootstrap)
    rows: list[ResultRow] = []
    drawn: dict[str, Floats] = {}
    values: dict[str, float] = {}
    for method in methods:
        if not method.images or bootstrap is None:
            rows.append(_absent_row(maker, method))
            continue
        own, resampled = _method_rows(maker, bootstrap, method, config)
        rows += own
        if resampled is not None:
            drawn[method.name] = resampled
        values[method.name] = _value(own, "ap_0.50")
    return rows + _ratio_rows(maker, scored, values, drawn)


def _absent_row(maker: _Maker, method: Method) -> ResultRow:
    reason, nothing = f"absent: {method.absent}", (math.nan, math.nan)
    return maker.row(
        "ap_0.50", method.tool, method.arm, "all", reason, math.nan, nothing, 0
    )


def _value(rows: Sequence[ResultRow], metric: str) -> float:
    return next(r.value for r in rows if r.metric == metric and r.seed == "all")


def _method_rows(
    maker: _Maker, bootstrap: Bootstrap, method: Method, config: Config
) -> tuple[list[ResultRow], Floats | None]:
    """Return the rows of a method, and its resampled AP50 (mean over seeds)."""
    values, draws = bootstrap.values(method), bootstrap.draws(method)
    place = f"scores/{method.tool}/{method.arm}"
    rows = []
    for metric in metric_names(config):
        for seed in method.seeds:
            interval = bootstrap.interval(draws.get(seed, {}).get(metric))
            rows.append(
                maker.row(metric, method.tool, method.arm, str(seed),
                          f"{place}/seed{seed}/images.csv", values[seed][metric],
                          interval)
            )  # fmt: skip
        mean = float(over_seeds(values, metric))
        interval = bootstrap.interval(over_seeds(draws, metric))
        rows.append(
            maker.row(metric, method.tool, method.arm, "all",
                      f"{place}/seed*/images.csv", mean, interval)
        )  # fmt: skip
    return rows, over_seeds(draws, "ap_0.50")


def _ratio_rows(
    maker: _Maker,
    scored: Sequence[Method],
    values: dict[str, float],
    drawn: dict[str, Floats],
) -> list[ResultRow]:
    """Compare each synthetic arm with the same tool's other arms and with Otsu."""
    names = [m.name for m in scored if m.arm == "synthetic"]
    if not names or maker.bootstrap is None:
        return []
    best = max(names, key=lambda name: values[name])
    rows = []
    for name in names:
        tool = name.split()[0]
        others = [f"{tool} annotated", f"{tool} sketch", "otsu_watershed annotated"]
        for other in others:
            if other not in values:
                continue
            low_high = (math.nan, math.nan)
            if name in drawn and other in drawn:
                below = np.where(drawn[other] > 0, drawn[other], np.nan)
                low_high = maker.bootstrap.interval(drawn[name] / below)
            ratio = values[name] / values[other] if values[other] else math.nan
            mark = " (better tool)" if name == best else ""
            against = "otsu_watershed" if "otsu" in other else other.split()[1]
            rows.append(
                maker.row(f"ap_0.50 synthetic/{against}", tool,
                          f"{name} / {other}{mark}", "all", "scores", ratio, low_high)
            )  # fmt: skip
    return rows


def per_image_table(root: Path) -> pd.DataFrame:
    """Return the scores of every image under every method and seed.

    Parameters
    ----------
    root : Path
        Folder of the experiment.

    Returns
    -------
    DataFrame
        Columns tool, arm, seed, then those of ``images.csv``. Empty without scores.
    """
    parts = []
    for method in load_methods(Path(root)):
        for seed in method.seeds:
            table = method.images[seed].reset_index(drop=True)
            for place, (name, value) in enumerate(
                {"tool": method.tool, "arm": method.arm, "seed": seed}.items()
            ):
                table.insert(place, name, value)
            parts.append(table)
    empty = pd.DataFrame(columns=["tool", "arm", "seed", "id", "group"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def number(value: float, digits: int = 2) -> str:
    """Format a number for a table; an en dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def with_interval(row: ResultRow) -> str:
    """Format a value with its interval, if it has one."""
    if math.isnan(row.ci_low):
        return number(row.value)
    return f"{row.value:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"


def wide_table(
    rows: Sequence[ResultRow], confidence: float = 0.95
) -> list[dict[str, str]]:
    """Return one row per method: what the Markdown table and the report show."""
    headline = f"AP50 [{100 * confidence:g}% CI]"
    by_method: dict[tuple[str, str], dict[str, ResultRow]] = {}
    seeds: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        key = (row.method, row.condition)
        if " / " in row.condition:
            continue
        if row.seed == "all":
            by_method.setdefault(key, {})[row.metric] = row
        else:
            seeds.setdefault(key, set()).add(row.seed)
    table = []
    for key, found in by_method.items():
        line = {"method": TOOLS.get(key[0], key[0]), "arm": key[1]}
        trained = arm_description(key[1])
        if key[0] == "otsu_watershed":
            trained = "nothing; smoothing chosen with real annotation"
        absent = found["ap_0.50"].source.startswith("absent: ")
        reason = found["ap_0.50"].source.removeprefix("absent: ")
        for metric, title in COLUMNS.items():
            count = metric in ("splits", "merges")
            value = found[metric].value if metric in found else math.nan
            text = number(value, 1).removesuffix(".0") if count else number(value)
            line[headline if metric == "ap_0.50" else title] = text
        line[headline] = (
            (reason or "absent") if absent else with_interval(found["ap_0.50"])
        )
        line["trained on"] = trained
        line["seeds"] = str(len(seeds.get(key, ()))) if not absent else "–"
        table.append(line)
    return table


def definitions(rows: Sequence[ResultRow]) -> list[str]:
    """Return what the numbers mean, in sentences: the foot of the table."""
    measured = [row for row in rows if row.n and row.seed == "all"]
    if not measured:
        return ["Nothing was measured: there is no annotation of the test part."]
    first = measured[0]
    lines = [
        f"Measured on held-out images ({first.dataset}; data kind: {first.data_kind}; "
        f"scale of the run: {first.scale}). Values are means over the trainings "
        "(seeds).",
        "AP = TP / (TP + FP + FN) over all objects of all images, one-to-one matching, "
        "a pair matches at IoU ≥ 0.5 (AP50); AP50:95 is the mean over the thresholds "
        "of the run. This is the AP of the Data Science Bowl 2018 and of Cellpose, not "
        "the area under a precision-recall curve.",
        "Precision, recall, F1 and PQ at IoU ≥ 0.5. PQ = sum of the matched IoU / "
        "(TP + FP/2 + FN/2). SEG (Cell Tracking Challenge): mean over the true objects "
        "of the IoU with the prediction that covers more than half of it, else 0. "
        "Dice: mean over the true objects with the prediction that overlaps most.",
        "Splits: true objects with two or more predictions inside; merges: predictions "
        "with two or more true objects inside; numbers of objects in all images.",
    ]
    return [*lines, _interval_sentence(first)]


def _interval_sentence(row: ResultRow) -> str:
    if row.unit_of_n == "image group":
        return (
            f"Intervals: bootstrap over image groups, n = {row.n}; the same groups are "
            "drawn for all methods and seeds, and ratios are paired. Seeds are "
            "averaged, not resampled."
        )
    shown = ", ".join(name.replace("_", " ") for name in OBJECT_METRICS)
    objects = row.unit_of_n.replace("object", "objects", 1)
    return (
        f"Intervals: bootstrap over objects, n = {row.n} true {objects}, for "
        f"{shown} only: there are fewer than three image groups. They say nothing "
        "about how other images would differ. Ratios are paired."
    )


def write_long(rows: Sequence[ResultRow], csv: Path) -> None:
    """Write rows as a CSV table, with all columns even if there is none."""
    names = [item.name for item in fields(ResultRow)]
    table = pd.DataFrame([asdict(row) for row in rows], columns=names)
    write_text(Path(csv), table.to_csv(index=False))


def write_tables(
    rows: Sequence[ResultRow], csv: Path, md: Path, confidence: float = 0.95
) -> None:
    """Write the long CSV table and the wide Markdown table.

    Parameters
    ----------
    rows : sequence of ResultRow
        What `segmentation_rows` returned.
    csv, md : Path
        Files to write.
    confidence : float
        Confidence of the intervals in `rows`; it is only printed.
    """
    write_long(rows, csv)
    lines = []
    wide = wide_table(rows, confidence)
    if wide:
        titles = [title for title in wide[0] if title != "arm"]
        lines += ["| " + " | ".join(titles) + " |"]
        lines += ["|" + "---|" * len(titles)]
        lines += ["| " + " | ".join(line[t] for t in titles) + " |" for line in wide]
        lines.append("")
    ratios = [row for row in rows if " / " in row.condition]
    if ratios:
        level = f"{100 * confidence:g}% CI"
        lines += [f"AP50 of the synthetic arm relative to others [{level}]:", ""]
        lines += [f"- {row.condition}: {with_interval(row)}" for row in ratios]
        lines.append("")
    lines += [f"- {line}" for line in definitions(rows)]
    write_text(Path(md), "\n".join(lines) + "\n")
