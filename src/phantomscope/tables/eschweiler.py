"""The tables of Eschweiler & Stegmaier 2023, published values beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from phantomscope.config.appearance import MAIN_BINS
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.paper import (
    Ids,
    PaperTable,
    Part,
    beside_text,
    markdown,
    published_ids,
)
from phantomscope.tables.paper_cells import dice_rows
from phantomscope.tables.published import (
    DEFINITIONS,
    beside,
    load_published,
    published_sd,
)
from phantomscope.tables.results import ResultRow, dataset_name

PAPER = "eschweiler"
FORWARD, BACKWARD = Path("tables/forward.csv"), Path("tables/backward.csv")
# Names of metrics that mean something else in another table.
RENAMED = {"dice": "fidelity_dice"}


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


def paper_tables(parts: Mapping[str, Part]) -> dict[str, PaperTable]:
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
    fig2 = beside(of("Figure 2"), forward + back.get("ath", []))
    return {
        "fig2": PaperTable(fig2, beside_text),
        "fig3": PaperTable(beside(of("Figure 3"), others), beside_text),
        "sec4": PaperTable(sec4, beside_text),
        "pareto": PaperTable(pareto_table(list(parts.values())), _pareto_text),
    }


def _pareto_text(table: pd.DataFrame, _: str) -> list[str]:
    if not len(table):
        return ["Not run."]
    rows = [
        [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in table.to_dict("records")
    ]
    return [
        *markdown(list(table.columns), rows), "",
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
