"""Resolution and accuracy of restored images: rows, intervals, and the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.config.restoration import RestorationArm
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap_interval,
    paired_bootstrap_ratio,
)
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.headline import FEW_GROUPS
from phantomscope.tables.results import ResultRow, dataset_name, write_long

ARMS: tuple[str, ...] = get_args(RestorationArm)
METRICS = (
    "frc_nm", "frc_half_bit_nm", "frc_map_mean_nm", "frc_map_sd_nm", "frc_map_min_nm",
    "psnr", "ssim", "nrmse",
)  # fmt: skip
# Of those that a person reads, the title and the digits.
COLUMNS = {
    "frc_nm": ("FRC 1/7 (nm)", 0),
    "frc_half_bit_nm": ("half-bit (nm)", 0),
    "frc_map_mean_nm": ("blocks (nm)", 0),
    "psnr": ("PSNR (dB)", 2),
    "ssim": ("SSIM", 3),
    "nrmse": ("NRMSE", 4),
}
RATIOS = (("diffusion", "mathematical"), ("diffusion", "experimental"))
NOTHING = Interval(math.nan, math.nan, math.nan, 0, 0)
CARE, WIDEFIELD, PAIRS = "care", "widefield", "pairs"


@dataclass(frozen=True)
class Restored:
    """One way to restore, with what was measured under each of its seeds.

    Attributes
    ----------
    method, arm : str
        ``care`` and its arm, or ``widefield`` and ``none``.
    images : dict
        Seed to its table, a row per test image, indexed by id.
    """

    method: str
    arm: str
    images: dict[int, pd.DataFrame]

    def column(self, metric: str, seed: int | None = None) -> pd.Series:
        """Return a metric of each image; without a seed the mean over all.

        NaN where it is not a finite number, under any seed.
        """
        tables = [self.images[seed]] if seed is not None else self.images.values()
        columns = [pd.to_numeric(table[metric], errors="coerce") for table in tables]
        mean = np.mean([column.to_numpy(float) for column in columns], axis=0)
        finite = np.where(np.isfinite(mean), mean, np.nan)
        return pd.Series(finite, index=columns[0].index)


def load_restored(root: Path) -> list[Restored]:
    """Read what was measured, the input first, then the arms in their order.

    Raises
    ------
    PhantomscopeError
        If a table is broken, or two are of different images.
    """
    found: dict[tuple[str, str], dict[int, pd.DataFrame]] = {}
    for path in sorted((root / "restoration").glob("*/*/seed*/images.csv")):
        method, arm, seed = path.parent.parts[-3:]
        table = read_table(path)
        table = table.assign(group=table["group"].fillna(table["id"]))
        table = table.set_index("id", drop=False).sort_index()
        found.setdefault((method, arm), {})[int(seed.removeprefix("seed"))] = table
    order = {arm: n for n, arm in enumerate(("none", *ARMS))}
    keys = sorted(found, key=lambda key: (order.get(key[1], len(order)), key))
    tables = [table for images in found.values() for table in images.values()]
    if any(list(table.index) != list(tables[0].index) for table in tables):
        raise PhantomscopeError(
            "not all were measured on the same images",
            where=root / "restoration",
            fix="delete this folder and run the same command again",
        )
    return [Restored(*key, dict(sorted(found[key].items()))) for key in keys]


@dataclass(frozen=True)
class _Rows:
    """Makes rows: what all of an experiment share is filled in."""

    config: Config
    dataset: str

    def row(
        self, metric: str, condition: str, method: str, seed: str, source: str,
        interval: Interval, unit: str = "image group",
    ) -> ResultRow:  # fmt: skip
        name = self.config.name
        what = condition.replace(" / ", "_over_")
        return ResultRow(
            "/".join((name, method, what, metric, seed)), name, self.dataset, metric,
            condition, method, interval.value, interval.low, interval.high,
            interval.n_groups, unit, seed, self.config.data_kind, self.config.scale,
            source,
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Return how intervals are drawn."""
        given = self.config.evaluate
        return {"resamples": given.resamples, "confidence": given.confidence,
                "seed": self.config.seed}  # fmt: skip

    def mean(self, values: pd.Series, groups: pd.Series) -> Interval:
        """Return the mean over images, with an interval over groups of them."""
        known = values.dropna()
        if known.empty:
            return NOTHING
        own = list(groups[known.index].astype(str))
        found = bootstrap_interval(list(known), _mean, groups=own, **self.options())
        return _believable(found)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _believable(found: Interval) -> Interval:
    """Return an interval, but none of fewer groups than say anything."""
    if found.n_groups >= FEWEST_GROUPS:
        return found
    return Interval(found.value, math.nan, math.nan, found.n, found.n_groups)


def restoration_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return all numbers of restoration, measured on the held-out images.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Resamples and confidence of `evaluate`, seed.

    Returns
    -------
    list of ResultRow
        Per method, arm (`condition`; ``none`` for the widefield image) and metric one
        row per seed and one with seed ``all``: means over images with an interval over
        groups of images, none for fewer than three of them. `source` says how many
        images have no crossing, which no mean contains. Then ``frc_ratio``, paired,
        and ``snr`` of the pairs of each arm and of the test part.

    Raises
    ------
    PhantomscopeError
        If a table is broken, or two are of different images.
    """
    root = Path(root)
    maker = _Rows(config, dataset_name(root, config))
    found = load_restored(root)
    rows = [row for one in found for row in _method_rows(maker, one)]
    return [*rows, *_ratio_rows(maker, found), *_snr_rows(maker, root)]


def _method_rows(maker: _Rows, one: Restored) -> list[ResultRow]:
    place = f"restoration/{one.method}/{one.arm}"
    groups = next(iter(one.images.values()))["group"]
    rows = []
    for metric in METRICS:
        for seed in [*one.images, None]:
            values = one.column(metric, seed)
            name = "all" if seed is None else str(seed)
            missing = int(values.isna().sum())
            said = f"; {missing} of {len(values)} images without" if missing else ""
            source = f"{place}/seed{'*' if seed is None else seed}/images.csv{said}"
            interval = maker.mean(values, groups)
            rows.append(maker.row(metric, one.arm, one.method, name, source, interval))
    return rows


def _ratio_rows(maker: _Rows, found: Sequence[Restored]) -> list[ResultRow]:
    """Compare resolutions on the same images: below 1 the first arm is finer."""
    arms = {one.arm: one for one in found if one.method == CARE}
    rows = []
    for own, other in RATIOS:
        if own not in arms or other not in arms:
            continue
        pair = pd.DataFrame({k: arms[k].column("frc_nm") for k in (own, other)})
        both, interval = pair.dropna(), NOTHING
        if len(both):
            groups = next(iter(arms[own].images.values()))["group"][both.index]
            interval = _believable(paired_bootstrap_ratio(
                list(both[own]), list(both[other]), _mean,
                groups=list(groups.astype(str)), **maker.options(),
            ))  # fmt: skip
        missing = len(pair) - len(both)
        said = f"; {missing} of {len(pair)} images without" if missing else ""
        source = f"restoration/{CARE}{said}"
        rows.append(
            maker.row("frc_ratio", f"{own} / {other}", CARE, "all", source, interval)
        )
    return rows


def _snr_rows(maker: _Rows, root: Path) -> list[ResultRow]:
    rows = []
    for arm in (*ARMS, "test"):
        if not (root / "pairs" / arm / "manifest.csv").exists():
            continue
        table = ImageSet.open(root / "pairs" / arm).having("snr").table
        values = pd.to_numeric(table["snr"]).to_numpy(float)
        interval = bootstrap_interval(list(values), _mean, **maker.options())
        source = f"pairs/{arm}/manifest.csv"
        rows.append(maker.row("snr", arm, PAIRS, "all", source, interval, "pair"))
    return rows


def text_of(row: ResultRow, digits: int, unit: str = "") -> str:
    """Format a value with its interval, if it has one; an en dash where there is none.

    Where some images have no crossing, their number stands beside it.
    """
    without = row.source.partition("; ")[2]
    beside = f" ({without.replace(' images without', ' missing')})" if without else ""
    if math.isnan(row.value):
        return f"–{beside}"
    shown = f"{row.value:.{digits}f}{unit}"
    if not math.isnan(row.ci_low):
        shown += f" [{row.ci_low:.{digits}f}, {row.ci_high:.{digits}f}]"
    return shown + beside


def arm_title(row: ResultRow) -> str:
    """Return what to call a method and its arm."""
    return "widefield input" if row.method == WIDEFIELD else f"CARE, {row.condition}"


def restoration_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per method and arm: what the Markdown and the report show."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    snr = {row.condition: row for row in rows if row.metric == "snr"}
    for row in rows:
        if row.metric not in COLUMNS or row.seed != "all":
            continue
        key = (row.method, row.condition)
        line = lines.setdefault(key, {"method, trained on": arm_title(row)})
        title, digits = COLUMNS[row.metric]
        line[title] = text_of(row, digits)
    for (method, arm), line in lines.items():
        own = snr.get("test" if method == WIDEFIELD else arm)
        line["SNR of pairs"] = text_of(own, 2) if own else "–"
    return list(lines.values())


def ratio_lines(rows: Sequence[ResultRow]) -> list[tuple[str, str]]:
    """Return what is compared, and the ratio with its interval."""
    return [
        (row.condition, text_of(row, 2)) for row in rows if row.metric == "frc_ratio"
    ]


def headline(rows: Sequence[ResultRow], confidence: float) -> str:
    """Return the sentence that a reader takes home."""
    means = {
        (row.method, row.condition): row for row in rows
        if row.metric == "frc_nm" and row.seed == "all" and not math.isnan(row.value)
    }  # fmt: skip
    before = means.get((WIDEFIELD, "none"))
    if before is None or len(means) < 2:
        return "No resolution could be measured: look at the images and their rings."
    arms = [
        f"{text_of(row, 0, ' nm')} trained on {row.condition} images"
        for (method, _), row in means.items() if method == CARE
    ]  # fmt: skip
    level = "" if math.isnan(before.ci_low) else f", [{100 * confidence:g}% CI]"
    return (
        f"Against the truth, widefield images resolve {text_of(before, 0, ' nm')}; "
        f"restored by CARE: {'; '.join(arms)} (FRC 1/7{level})."
    )


def restoration_notes(rows: Sequence[ResultRow], confidence: float) -> list[str]:
    """Return what the numbers mean, in sentences."""
    measured = [row for row in rows if row.method in (CARE, WIDEFIELD)]
    if not measured:
        return ["Nothing was measured."]
    first, n = measured[0], max(row.n for row in measured)
    interval = (
        f"Intervals ({100 * confidence:g}%): bootstrap over {n} image groups; ratios "
        "are paired; seeds are averaged, not resampled."
        if n >= FEWEST_GROUPS
        else f"There are {n} image group(s): too few for intervals."
    )
    return [
        f"Measured on held-out super-resolution images ({first.dataset}; data kind: "
        f"{first.data_kind}; scale of the run: {first.scale}). Their widefield images "
        "were computed by the optical model, none was taken by a microscope.",
        "FRC: the finest detail that an image shares with the truth, where the Fourier "
        "ring correlation first falls below 1/7 (or the half-bit curve). It is one of "
        "accuracy, not of two halves of an image; smaller is finer. An image that "
        "never falls below agrees to within two pixels, one that is below from the "
        "first ring on agrees nowhere: both have no value, and are counted beside the "
        "mean. Blocks: mean over the blocks of an image, 10 along each side.",
        "PSNR, SSIM and NRMSE after the percentile scaling and affine match of Weigert "
        "et al. (2018). NRMSE: relative to the range of the truth.",
        "SNR: mean signal of the brightest tenth of the pixels by the standard "
        "deviation of their noise, measured on the pairs that an arm was trained on "
        "(widefield: on the test images); intervals over pairs.",
        interval,
    ]


def restoration_cautions(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what a reader must know before believing the numbers of restoration."""
    measured = [row for row in rows if row.method == CARE and row.seed == "all"]
    said = []
    n = max((row.n for row in measured), default=0)
    if measured and n < FEW_GROUPS:
        said.append(
            f"Resolution was measured on {n} independent image groups: intervals, if "
            "there are any, are narrower than the truth."
        )
    if measured and (seeds := len(config.restore.seeds)) < 3:
        said.append(
            f"CARE was trained {'once' if seeds == 1 else f'{seeds} times'} per arm: "
            "how much chance in the training matters is unknown. Set restore.seeds: "
            "[0, 1, 2] before claiming a difference."
        )
    return said


def write_restoration(
    rows: Sequence[ResultRow], csv: Path, md: Path, confidence: float = 0.95
) -> None:
    """Write the long CSV table and the Markdown table.

    Parameters
    ----------
    rows : sequence of ResultRow
        What `restoration_rows` returned.
    csv, md : Path
        Files to write.
    confidence : float
        Confidence of the intervals in `rows`; it is only printed.
    """
    write_long(rows, csv)
    lines = []
    if shown := restoration_table(rows):
        lines += ["| " + " | ".join(shown[0]) + " |", "|" + "---|" * len(shown[0])]
        lines += ["| " + " | ".join(line.values()) + " |" for line in shown]
        lines.append("")
    if ratios := ratio_lines(rows):
        level = f"{100 * confidence:g}% CI"
        lines += [f"FRC (1/7) of one arm by that of another [{level}]:", ""]
        lines += [f"- {what}: {ratio}" for what, ratio in ratios]
        lines.append("")
    lines += [f"- {line}" for line in restoration_notes(rows, confidence)]
    write_text(Path(md), "\n".join(lines) + "\n")
