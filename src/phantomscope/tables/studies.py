"""Studies of translation: steps, uncertainty and artefacts, as rows and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_METHODS
from phantomscope.images.files import write_text
from phantomscope.measure.artefacts import contrast
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap_interval,
)
from phantomscope.measure.translation import error_per_spread
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.instances import OURS
from phantomscope.tables.paper import markdown
from phantomscope.tables.results import ResultRow, with_interval, write_long
from phantomscope.tables.translation import (
    ALL,
    NOTHING,
    TITLES,
    RowMaker,
    mean_of,
)

Floats = NDArray[np.float64]
Statistic = Callable[[Sequence[Any]], float]
PLACES, CANDIDATES = "study/places.csv", "study/candidates.csv"
SPOTS = "rule for spots"
QUALITY = {"psnr": "stain_psnr", "ssim": "stain_ssim", "mse": "stain_mse"}
CALIBRATION, RANK = "uncertainty_calibration", "uncertainty_rank_correlation"
# Fewer predictions than these tell their own spread badly.
FEW_SAMPLES = 8


def study_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return all numbers of the studies that the config asks for.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        `translate.study`, `translate.samples`; resamples and confidence of `evaluate`.

    Returns
    -------
    list of ResultRow
        Steps, uncertainty, artefacts; intervals over groups of images, none for fewer
        than three. Seeds are averaged.

    Raises
    ------
    PhantomscopeError
        If a table is missing or broken.
    """
    root, maker = Path(root), RowMaker(config)
    rows = steps_rows(root, maker) if config.translate.study.steps else []
    rows += uncertainty_rows(root, maker)
    return [*rows, *(artefact_rows(root, maker) if config.translate.studied else [])]


def _over(
    maker: RowMaker, table: pd.DataFrame, columns: Sequence[str], statistic: Statistic
) -> Interval:
    """Return a statistic of columns of a table, resampled by its column ``group``."""
    values = table[list(columns)].to_numpy(np.float64)
    known = np.isfinite(values).all(axis=1)
    if not known.any():
        return NOTHING
    return bootstrap_interval(
        list(values[known]), statistic,
        groups=list(table["group"].astype(str)[known]), **maker.drawn,
    )  # fmt: skip


def _by_unit(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Average numbers over channels and seeds; keep the group."""
    numbers = [n for n in table.select_dtypes("number") if n not in (*keys, "seed")]
    found = table.groupby(keys, sort=False)
    return found[numbers].mean().join(found["group"].first()).reset_index()


def _seeded(root: Path, pattern: str, config: Config) -> pd.DataFrame:
    """Read a table of all seeds, with a column ``seed``."""
    return pd.concat([
        read_table(root / pattern.format(seed=seed)).assign(seed=seed)
        for seed in config.translate.seeds
    ])  # fmt: skip


def _conditions(config: Config) -> dict[str, list[str]]:
    """Return what rows are about: all stains together, and each channel."""
    each = {name: [name] for name in config.translate.channels}
    return {ALL: config.translate.plates.stains, **each}


def steps_rows(root: Path, maker: RowMaker) -> list[ResultRow]:
    """Return quality and seconds per image of residual diffusion by its steps."""
    quality = _seeded(root, "study/steps/seed{seed}/quality.csv", maker.config)
    seconds = _seeded(root, "study/steps/seed{seed}/seconds.csv", maker.config)
    images, rows = replace(maker, counted="image"), []
    for steps, part in quality.groupby("steps"):
        for name, channels in _conditions(maker.config).items():
            units = _by_unit(part[part["channel"].isin(channels)], ["id"])
            what = steps_condition(int(steps), name)
            rows += [
                maker.row(title, what, OURS, _over(maker, units, [metric], mean_of),
                          "study/steps/seed*/quality.csv")
                for metric, title in QUALITY.items()
            ]  # fmt: skip
        took = seconds[seconds["steps"] == steps].assign(group=lambda t: t["id"])
        interval = _over(images, took, ["seconds"], lambda v: float(np.median(v)))
        what = steps_condition(int(steps), ALL)
        rows.append(images.row("image_seconds", what, OURS, interval,
                               "study/steps/seed*/seconds.csv"))  # fmt: skip
    return rows


def steps_condition(steps: int, channel: str) -> str:
    """Return the condition of a row of `steps_rows`."""
    name = f"{steps} step{'s' if steps > 1 else ''}"
    return name if channel == ALL else f"{name}, {channel}"


def uncertain_methods(root: Path, config: Config) -> list[str]:
    """Return the methods whose predictions spread, in the order of the config."""
    pattern = "translation_scores/{}/seed*/reliability.csv"
    return [
        method
        for method in ALL_METHODS
        if method in config.translate.methods and any(root.glob(pattern.format(method)))
    ]


def load_reliability(root: Path, config: Config, method: str) -> pd.DataFrame:
    """Read the binned sums of squared errors and spreads of all seeds of a method."""
    place = f"translation_scores/{method}/seed{{seed}}/reliability.csv"
    return _seeded(root, place, config)


def uncertainty_rows(root: Path, maker: RowMaker) -> list[ResultRow]:
    """Return how well the spread of predictions tells their error, by channel."""
    rows = []
    for method in uncertain_methods(root, maker.config):
        scores = f"translation_scores/{method}/seed*"
        sums = load_reliability(root, maker.config, method)
        averaged = maker.config.translate.averaged_of(method)
        ranks = _seeded(
            root, f"translation_scores/{method}/seed{{seed}}/uncertainty.csv",
            maker.config,
        )  # fmt: skip
        for name, channels in _conditions(maker.config).items():
            own = sums[sums["channel"].isin(channels)]
            added = own.groupby("id").agg(
                squared_error=("squared_error", "sum"),
                squared_spread=("squared_spread", "sum"), group=("group", "first"),
            )  # fmt: skip
            interval = _over(
                maker, added, ["squared_error", "squared_spread"],
                _calibration_of(averaged),
            )  # fmt: skip
            rows.append(maker.row(CALIBRATION, name, method, interval,
                                  f"{scores}/reliability.csv"))  # fmt: skip
            units = _by_unit(ranks[ranks["channel"].isin(channels)], ["id"])
            rows.append(
                maker.row(
                    RANK, name, method,
                    _over(maker, units, ["rank_correlation"], mean_of),
                    f"{scores}/uncertainty.csv",
                )
            )  # fmt: skip
    return rows


def _calibration_of(averaged: int) -> Statistic:
    """Return what tells the root mean squared error by the one that is foretold."""

    def calibration(sums: Sequence[Floats]) -> float:
        error, spread = np.sum(sums, axis=0)
        if not spread:
            return math.nan
        return math.sqrt(error / spread) / error_per_spread(averaged)

    return calibration


# Metric: columns of which it is a statistic.
ARTEFACTS: dict[str, tuple[list[str], Statistic]] = {
    "artefact_change": (["inside"], mean_of),
    "artefact_around": (["around"], mean_of),
    "artefact_signed": (["signed"], mean_of),
    "artefact_contrast": (
        ["inside", "around"], lambda v: contrast(*map(float, np.mean(v, axis=0)))
    ),
    "artefact_share": (["inside", "given"], lambda v: _ratio(np.mean(v, axis=0))),
    "spread_auc": (["auc"], mean_of),
    "spread_auc_clean": (["auc_clean"], mean_of),
}  # fmt: skip


def _ratio(pair: Floats) -> float:
    return float(pair[0] / pair[1]) if pair[1] else math.nan


def artefact_rows(root: Path, maker: RowMaker) -> list[ResultRow]:
    """Return what each method made of planted artefacts, and what a rule found."""
    config, rows = maker.config, _spot_rows(root, maker)
    for method in config.translate.studied:
        place = f"study/artefacts/{method}/seed{{seed}}/artefacts.csv"
        table = _seeded(root, place, config)
        for kind, part in table.groupby("kind"):
            for name, channels in _conditions(config).items():
                units = _by_unit(part[part["channel"].isin(channels)], ["id", "number"])
                for metric, (columns, statistic) in ARTEFACTS.items():
                    if metric.startswith("spread") and units["auc"].isna().all():
                        continue  # a method without noise
                    rows.append(
                        maker.row(
                            metric, f"{kind}, {name}", method,
                            _over(maker, units, columns, statistic),
                            place.replace("{seed}", "*"),
                        )
                    )  # fmt: skip
    return rows


def _spot_rows(root: Path, maker: RowMaker) -> list[ResultRow]:
    """Return real spots per image, and the share of planted ones that are found."""
    spots, known = read_table(root / CANDIDATES), read_table(root / PLACES)
    groups = spots.set_index("id")["group"]
    known = known.assign(group=known["id"].map(groups), found=known["found"] * 1.0)
    interval = _over(maker, spots, ["spots"], mean_of)
    return [
        maker.row("candidate_spots", "real", SPOTS, interval, CANDIDATES),
        *(maker.row("artefact_found", str(kind), SPOTS,
                    _over(maker, part, ["found"], mean_of), PLACES)
          for kind, part in known.groupby("kind")),
    ]  # fmt: skip


# What people read


def _lines(
    rows: Sequence[ResultRow], titles: dict[str, str], first: Sequence[str]
) -> list[dict[str, str]]:
    """Return one line per condition and method, one column per metric."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row.metric in titles:
            key = (row.condition, row.method)
            names = dict(zip(first, (row.condition, TITLES.get(row.method, row.method)),
                             strict=False))  # fmt: skip
            line = found.setdefault(key, names)
            line[titles[row.metric]] = with_interval(row)
    return list(found.values())


def steps_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per number of steps, of all stains together."""
    titles = {"stain_psnr": "PSNR (dB)", "stain_ssim": "SSIM", "stain_mse": "MSE",
              "image_seconds": "seconds per image"}  # fmt: skip
    chosen = [row for row in rows if "," not in row.condition]
    return _lines(chosen, titles, ["steps"])


def uncertainty_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per method and channel."""
    titles = {CALIBRATION: "error by what the spread foretells",
              RANK: "rank correlation with the error"}  # fmt: skip
    return _lines(rows, titles, ["channel", "method"])


def artefact_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per kind and method, of all stains together."""
    titles = {
        "artefact_change": "change inside (grey values)",
        "artefact_around": "around",
        "artefact_contrast": "inside by around",
        "artefact_share": "by the change of brightfield",
        "spread_auc": "AUC of the spread",
        "spread_auc_clean": "AUC without artefact",
    }
    chosen = [row for row in rows if row.condition.endswith(f", {ALL}")]
    return _lines(chosen, titles, ["artefacts", "method"])


def spot_sentences(rows: Sequence[ResultRow]) -> list[str]:
    """Return what the rule for spots found, in sentences."""
    said = []
    for row in rows:
        if row.metric == "candidate_spots":
            said.append(
                "Dark round spots in the real brightfield images, which may be "
                f"artefacts: {row.value:.1f} per image."
            )
        elif row.metric == "artefact_found":
            said.append(
                f"The same rule finds {100 * row.value:.0f}% of the planted "
                f"{row.condition}."
            )
    return said


def study_notes(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what the numbers mean, in sentences."""
    options, said = config.translate, []
    metrics = {row.metric for row in rows}
    unit = RowMaker(config).unit
    n = max((row.n for row in rows if row.unit_of_n == unit), default=0)
    if rows:
        said.append(
            f"Data kind: {rows[0].data_kind}; scale of the run: {rows[0].scale}. "
            + (f"Intervals ({100 * config.evaluate.confidence:g}%): bootstrap over up "
               f"to {n} units ({unit}); seeds are averaged."
               if n >= FEWEST_GROUPS
               else f"There are {n} units ({unit}): too few for intervals.")
        )  # fmt: skip
    if "image_seconds" in metrics:
        said.append(
            "One model predicts with each number of steps: times even in t, from T to "
            "0, coefficients derived anew. A model trained for few steps may do better "
            "with them. Seconds: median over images, without the start of the program."
        )
    if CALIBRATION in metrics:
        said.append(
            "Spread: standard deviation of the predictions of a pixel "
            f"({options.samples} each). It foretells an error of sqrt(1 + 1/n) times "
            "itself, n predictions averaged into the one that is measured "
            f"({options.averaged}), if the truth is as likely as any of them: 1 is "
            "calibrated, above 1 too sure of itself."
        )
        if options.samples < FEW_SAMPLES:
            said.append(
                f"{options.samples} predictions tell their spread badly, and that "
                "whose error is taken is of them: correlations are too high, "
                "and bins of small and large spread mix. The calibration is not "
                f"biased. Set translate.samples to {FEW_SAMPLES} or more."
            )
    if "artefact_change" in metrics:
        said.append(
            "Artefacts are planted in brightfield alone, so what changes of a stain is "
            "invented. Images with and without them are translated with the same "
            "noise, each prediction by itself; absolute change in grey values of 0 to "
            "255 inside an artefact, by that in a ring around it (at least 0.5 is "
            "taken), and by the change of the brightfield itself. AUC: how often the "
            "spread of a pixel inside is larger than that of one far from all "
            "artefacts; 0.5 says nothing. "
            "Limits of intensity are those of the image without artefacts."
        )
    return said


def study_sections(rows: Sequence[ResultRow]) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the tables that people read, with their titles; none that are empty."""
    made = (
        ("Quality by the number of steps", steps_table(rows)),
        ("Does the spread of predictions tell their error?", uncertainty_table(rows)),
        ("What becomes of planted artefacts", artefact_table(rows)),
    )
    return [(title, lines) for title, lines in made if lines]


def write_studies(
    rows: Sequence[ResultRow], csv: Path, md: Path, config: Config
) -> None:
    """Write the long CSV table and the Markdown tables."""
    write_long(rows, csv)
    text = []
    for title, lines in study_sections(rows):
        names = list(dict.fromkeys(name for line in lines for name in line))
        text += [f"## {title}", ""]
        text += markdown(names, [[line.get(n, "–") for n in names] for line in lines])
        text.append("")
    said = [*spot_sentences(rows), *study_notes(rows, config)]
    text += [f"- {line}" for line in said or ["Nothing was studied."]]
    write_text(Path(md), "\n".join(text) + "\n")
