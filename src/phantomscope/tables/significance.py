"""Tests of residual diffusion against its rivals, with wells or blocks as units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from phantomscope.config.model import Config
from phantomscope.measure.comparisons import compare_methods, holm
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap_interval,
)
from phantomscope.tables.instances import OURS
from phantomscope.tables.paper import markdown
from phantomscope.tables.results import ResultRow, number
from phantomscope.tables.translation import (
    ALL,
    SHOWN,
    TITLES,
    RowMaker,
    Translated,
    load_translated,
    mean_of,
)

METRICS = ("mse", "psnr", "ssim")
OVER_IMAGES = "student_t_images"
# Name of a test, what it is called in a table, and whether Holm corrects it.
TESTS = {
    OVER_IMAGES: ("t, over images (as the paper)", False),
    "student_t": ("two-sample t", False),
    "paired_t": ("paired t", True),
    "wilcoxon": ("Wilcoxon", True),
}
NAMES = tuple(
    f"{metric}_{name}"
    for metric in METRICS
    for name in (
        "difference", *TESTS,
        *(f"{test}_holm" for test, (_, adjust) in TESTS.items() if adjust),
    )
)  # fmt: skip


@dataclass(frozen=True)
class _Comparison:
    """What was found for one metric, stain and rival."""

    metric: str
    stain: str
    rival: str
    difference: Interval
    p_values: dict[str, float]
    images: int

    @property
    def condition(self) -> str:
        return f"{self.stain}, {OURS} / {self.rival}"


def significance_rows(root: Path, config: Config) -> list[ResultRow]:
    """Test residual diffusion against each rival, for each stain and for all.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Its config.

    Returns
    -------
    list of ResultRow
        For MSE, PSNR and SSIM: ``<metric>_difference`` (ours minus the rival, mean over
        units, with its interval) and two-sided p-values: ``<metric>_student_t_images``
        as the paper seems to have it, and over means of units ``_student_t``,
        ``_paired_t``, ``_wilcoxon``, the last two also as ``_holm``. Holm's correction
        is over the rivals for all stains together, and over rivals and stains for the
        single ones. Seeds are averaged in each image. NaN with fewer than three units;
        the source then says so.
    """
    found = load_translated(Path(root), config)
    ours = next((one for one in found if one.method == OURS), None)
    if ours is None:
        return []
    maker, rows = RowMaker(config), []
    stains = config.translate.plates.stains
    rivals = [one for one in found if one.method != OURS]
    for metric in METRICS:
        for names in ([ALL], stains):
            family = [
                _compared(maker, ours, rival, metric, name)
                for name in names
                for rival in rivals
            ]
            rows += _family_rows(maker, family)
    return rows


def _compared(
    maker: RowMaker, ours: Translated, rival: Translated, metric: str, stain: str
) -> _Comparison:
    channels = maker.config.translate.plates.stains if stain == ALL else [stain]
    pair = ours.of_images(metric, channels).join(
        rival.of_images(metric, channels)["value"].rename("value_rival"), how="inner"
    )
    p_values = compare_methods(pair["value"], pair["value_rival"], list(pair["group"]))
    apart = (pair["value"] - pair["value_rival"]).groupby(pair["group"]).mean()
    difference = Interval(math.nan, math.nan, math.nan, 0, 0)
    if len(apart):
        difference = bootstrap_interval(list(apart), mean_of, **maker.drawn)
    return _Comparison(metric, stain, rival.method, difference, p_values, len(pair))


def _family_rows(maker: RowMaker, family: Sequence[_Comparison]) -> list[ResultRow]:
    """Return the rows of comparisons that are corrected together."""
    adjusted = {
        test: holm({one.condition: one.p_values[test] for one in family})
        for test, (_, adjust) in TESTS.items()
        if adjust
    }
    rows = []
    for one in family:
        source = "translation_scores"
        if one.difference.n < FEWEST_GROUPS:
            source = f"{one.difference.n} units: a test needs {FEWEST_GROUPS}"

        def add(name: str, interval: Interval, one: _Comparison = one,
                source: str = source) -> ResultRow:  # fmt: skip
            return maker.row(
                f"{one.metric}_{name}", one.condition, OURS, interval, source
            )

        rows.append(add("difference", one.difference))
        n = one.difference.n_groups
        for test in TESTS:
            row = add(test, Interval(one.p_values[test], math.nan, math.nan, n, n))
            if test == OVER_IMAGES:
                row = replace(row, n=one.images, unit_of_n="image")
            rows.append(row)
        rows += [
            add(f"{test}_holm", Interval(p[one.condition], math.nan, math.nan, n, n))
            for test, p in adjusted.items()
        ]
    return rows


# Metric, condition, value, its interval, n and unit of n.
Shown = tuple[str, str, float, float, float, int, str]


def shown(rows: Iterable[ResultRow]) -> list[Shown]:
    """Return what `significance_text` needs of rows."""
    return [
        (r.metric, r.condition, r.value, r.ci_low, r.ci_high, r.n, r.unit_of_n)
        for r in rows
    ]


def significance_table(records: Iterable[Shown]) -> list[dict[str, str]]:
    """Return one line per metric, stain and rival."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for name, condition, value, low, high, n, unit in records:
        metric, _, test = name.partition("_")
        if name not in NAMES:
            continue
        stain, _, pair = condition.rpartition(", ")
        line = lines.setdefault((metric, condition), {
            "metric": SHOWN[metric][0], "stain": stain,
            "against": TITLES[pair.partition(" / ")[2]],
        })  # fmt: skip
        if test == "difference":
            text = number(value, 3)
            if not math.isnan(low):
                text += f" [{low:.3g}, {high:.3g}]"
            line["ours minus rival"] = text
            line["n"] = f"{n} {unit}s" if unit != "block of an image" else f"{n} blocks"
        elif test.endswith("_holm"):
            line[f"{TESTS[test.removesuffix('_holm')][0]}, Holm"] = _p(value)
        else:
            line[TESTS[test][0]] = _p(value)
    return list(lines.values())


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def significance_notes(config: Config | None = None) -> list[str]:
    """Return what the p-values mean, in sentences."""
    notes = [
        "Tests are two-sided, of residual diffusion against each rival on the same "
        "images; seeds are averaged in each image. Units are wells (blocks of an image "
        "where there is one image), each by the mean of its images; – where there are "
        f"fewer than {FEWEST_GROUPS} or nothing varies. With few units the smallest "
        "p-value that Wilcoxon's test can give is large.",
        "The two-sample t-test over images is what the paper seems to have used: "
        "images of a well are no independent evidence, and it ignores that the images "
        "are the same. Its p-values stand here to compare alone.",
        "Many comparisons are made. Holm's correction is over the rivals for all "
        "stains together, and over all rivals and stains for the single ones; MSE, "
        "PSNR and SSIM are not corrected for one another, nor are the t-tests of two "
        "samples at all.",
    ]
    if config is not None and config.translate.blocks:
        notes.append(
            "Blocks of one image are not independent: these p-values are too small."
        )
    return notes


def significance_text(
    records: Iterable[Shown], config: Config | None = None
) -> list[str]:
    """Return the lines of Markdown; none without comparisons."""
    table = significance_table(records)
    if not table:
        return []
    titles = list(dict.fromkeys(name for line in table for name in line))
    rows = [[line.get(name, "–") for name in titles] for line in table]
    return [
        "Tests of residual diffusion against each rival (p-values):", "",
        *markdown(titles, rows), "",
        *(f"- {line}" for line in significance_notes(config)),
    ]  # fmt: skip
