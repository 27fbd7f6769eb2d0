"""What the numbers say, in sentences: computed, and as cautious as the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from phantomscope.config.model import Config
from phantomscope.images.files import read_json
from phantomscope.tables.artefacts import SOURCES, read_table
from phantomscope.tables.results import ResultRow, number, with_interval
from phantomscope.tables.style import TOOLS

FEW_GROUPS = 10


def _ap50(rows: Sequence[ResultRow]) -> dict[tuple[str, str], ResultRow]:
    return {
        (row.method, row.condition): row
        for row in rows
        if row.metric == "ap_0.50" and row.seed == "all" and not math.isnan(row.value)
    }


def _best(found: Mapping[tuple[str, str], ResultRow]) -> ResultRow | None:
    own = [row for (_, arm), row in found.items() if arm == "synthetic"]
    return max(own, key=lambda row: row.value, default=None)


def headline(rows: Sequence[ResultRow], *, annotated_shape: bool = False) -> str:
    """Return the one sentence that a reader takes home.

    `annotated_shape`: whether the shape of the organ was learnt from annotation.
    """
    found = _ap50(rows)
    best = _best(found)
    if best is None:
        if found:
            return "No tool was trained on synthetic images in this run."
        return (
            "There is no annotation, so nothing was measured: look at the images and "
            "at the checks."
        )
    tool = TOOLS.get(best.method, best.method)
    how = "Trained on synthetic images" if annotated_shape else (
        "Trained without a single annotation")  # fmt: skip
    parts = [
        f"{how}, {tool} reaches AP50 "
        f"{with_interval(best)} on {SOURCES[best.data_kind]} held-out images"
    ]
    annotated = found.get((best.method, "annotated"))
    if annotated:
        parts.append(f"with real annotation it reaches {number(annotated.value)}")
    sketch = found.get((best.method, "sketch"))
    if sketch:
        parts.append(f"on plain sketches {number(sketch.value)}")
    otsu = found.get(("otsu_watershed", "annotated"))
    if otsu:
        parts.append(f"Otsu-watershed {number(otsu.value)}")
    return "; ".join(parts) + "."


def _against(row: ResultRow, other: str, worse: str, better: str) -> str:
    """Judge a ratio by its interval; without one, only the numbers are compared."""
    told = f"{with_interval(row)} times {other}"
    if math.isnan(row.ci_low):
        verdict = worse if row.value < 1 else better
        return f"{verdict} ({told}; no interval could be computed)."
    if row.ci_high < 1:
        return f"{worse} ({told})."
    if row.ci_low > 1:
        return f"{better} ({told})."
    lower = "Lower than" if row.value < 1 else "As high as" if row.value == 1 else (
        "Higher than")  # fmt: skip
    return (
        f"{lower} {other} ({with_interval(row)} times), but on these images "
        "the difference cannot be told from chance."
    )


def comparisons(rows: Sequence[ResultRow]) -> list[str]:
    """Return what the ratios of the better tool say."""
    said = []
    for row in rows:
        if "(better tool)" not in row.condition or math.isnan(row.value):
            continue
        against = row.metric.rpartition("/")[2]
        if against == "annotated":
            said.append(_against(
                row, "the AP50 of the same tool trained on real annotation",
                "Synthetic images fall short of real annotation",
                "Synthetic images beat the real annotation of this small training part",
            ))  # fmt: skip
        elif against == "sketch":
            said.append(_against(
                row, "the AP50 with plain sketches",
                "The diffusion model did harm: plain sketches teach more",
                "The diffusion model pays: its images teach more than plain sketches",
            ))  # fmt: skip
        else:
            said.append(_against(
                row, "the AP50 of Otsu-watershed",
                "A classical threshold that needs no training is better here",
                "It beats a classical threshold tuned on real annotation",
            ))  # fmt: skip
    return said


def cautions(root: Path, config: Config, rows: Sequence[ResultRow]) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    said = []
    if config.scale == "smoke":
        said.append(
            "This is a smoke run: it shows that everything works. Its numbers mean "
            "nothing."
        )
    if config.data_kind == "simulated":
        said.append(
            "The source images were computed, not taken by a microscope: read "
            '"simulated source" where this report says "real".'
        )
    elif config.data_kind == "stand-in":
        said.append(
            "The images are real, but only stand in for those of the paper: its "
            "numbers cannot be compared with these."
        )
    if config.simulate.learns_shape:
        said.append(
            "The shape of the organ was learnt from the annotation of the training "
            "part: the synthetic images owe that much to annotation."
        )
    if _free(root, config):
        said.append(
            "The diffusion model began at pure noise: synthetic images owe nothing to "
            "their sketches, and the labels beside them mean nothing."
        )
    measured = [row for row in rows if row.n and row.seed == "all"]
    if measured:
        said += _small(measured[0], len(config.segment.seeds))
    summary = root / "checked" / "summary.json"
    if summary.exists():
        content = read_json(summary)
        share = content["rejected"] / max(content["images"], 1)
        if share > 0.3:
            said.append(
                f"{share:.0%} of the synthetic images were rejected: what is left may "
                "show the easy cases only."
            )
    copies = copying(root)
    if copies and copies[0] > 0.2:
        said.append(copies[1])
    return said


def _free(root: Path, config: Config) -> bool:
    """Whether images were generated without any regard to sketches."""
    start = root / "start.json"
    if config.condition.kind != "none" or not start.exists():
        return False
    return bool(read_json(start)["value"] == config.process.timesteps)


def _small(row: ResultRow, seeds: int) -> list[str]:
    said = []
    if row.unit_of_n != "image group":
        where = row.unit_of_n.removeprefix("object of ")
        said.append(
            f"All numbers come from {where} ({row.n} objects). The intervals cover "
            "these objects only and say nothing about other images, days or samples."
        )
    elif row.n < FEW_GROUPS:
        said.append(
            f"Only {row.n} independent image groups were measured: the intervals are "
            "narrower than the truth."
        )
    if seeds < 3:
        count = "one training (seed)" if seeds == 1 else f"{seeds} trainings (seeds)"
        said.append(
            f"Only {count} per method: how much chance in the training matters is "
            "unknown. Set segment.seeds: [0, 1, 2] before claiming a difference."
        )
    return said


def copying(root: Path) -> tuple[float, str] | None:
    """Return the share of suspiciously near synthetic patches, and a sentence.

    Five percent of the real held-out patches are, by definition, above the limit.
    """
    path = root / "memorisation.csv"
    if not path.exists():
        return None
    table = read_table(path)
    scores = {
        kind: pd.to_numeric(table.loc[table["kind"] == kind, "score"]).dropna()
        for kind in ("synthetic", "held_out")
    }
    if any(len(values) == 0 for values in scores.values()):
        return None
    limit = float(scores["held_out"].quantile(0.95))
    share = float((scores["synthetic"] > limit).mean())
    verdict = (
        "more than chance: the generator may repeat its training images"
        if share > 0.2
        else "no sign that the generator repeats its training images"
    )
    return share, (
        f"{share:.0%} of the synthetic patches are nearer to a training patch than 95% "
        f"of the real held-out patches are (5% would be expected): {verdict}."
        + _flagged(table)
    )


def _flagged(table: pd.DataFrame) -> str:
    """Say how many samples stand out as copies, and the gap to held-out images."""
    judged = table[table["kind"] == "synthetic"]
    if "flagged" not in judged or judged["flagged"].isna().all():
        return ""
    flags = judged["flagged"].astype(str) == "True"
    gap = judged.iloc[0]
    return (
        f" Flagged as copies: {flags.sum()} of {len(flags)}, where 5% of the runs "
        "without any copy would flag one. The samples are nearer to training than to "
        f"as many held-out patches by {gap['gap']:.3f} in correlation (95% interval "
        f"{gap['gap_low']:.3f} to {gap['gap_high']:.3f})."
    )
