"""Stages of profiles: features of objects on real and on predicted stains, compared."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.translation import Boundaries, Profiled
from phantomscope.engine.pairs import from_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import atomic_file, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.agreement import matched_pairs
from phantomscope.measure.features import (
    KINDS,
    feature_columns,
    inner_labels,
    object_features,
    site_features,
)
from phantomscope.measure.moments_by_group import Moments
from phantomscope.measure.profiles import (
    Level,
    category_rows,
    groups_of_lines,
    retrieval_rows,
)
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output
from phantomscope.stages.plates import LABELS
from phantomscope.stages.translated import blocks, holders_of
from phantomscope.tables.artefacts import read_table

Array = NDArray[Any]
# What rows of objects, sites and wells know of where they are from.
ABOUT = ("group", "plate", "well", "compound", "cell_line")
# Digits that say more than the 16 bits of a stain do.
DIGITS = "%.7g"


@dataclass(frozen=True)
class _Source:
    """Where stains and objects to measure come from; real ones without `holders`."""

    config: Config
    truth: ImageSet
    holders: Mapping[str, ImageSet]
    way: Profiled

    def stains(self, name: str) -> Array:
        """Return the stains (C, Y, X), 0 ... 1."""
        options = self.config.translate
        if self.holders:
            values = from_stored(self.holders[name].channels(name))
        else:
            values = from_stored(self.truth.channels(name))
            values = values[len(options.plates.inputs) :]
        return np.clip((values[: len(options.plates.stains)] + 1) / 2, 0, 1)

    def objects(self, name: str, kind: Boundaries) -> pd.DataFrame:
        """Measure the objects of an image that do not touch its border.

        The column ``match`` names the real object that each is, 0 for none.
        """
        # Underscores divide the parts of feature names.
        channels = [n.replace("_", "-") for n in self.config.translate.plates.stains]
        true = labels = getattr(self.truth, LABELS[kind])(name)
        if self.holders and self.way == "found":
            labels = getattr(self.holders[name], LABELS[kind])(name)
        table = object_features(
            self.stains(name), labels, channels, kind, inner_labels(labels)
        )
        match = table["label"]
        if labels is not true:
            pairs = matched_pairs(true, labels).set_index("synthetic")["real"]
            match = match.map(pairs).fillna(0).astype(int)
        table.insert(1, "match", match)
        return table


def _placed(table: pd.DataFrame, place: str, window: Sequence[slice]) -> pd.DataFrame:
    """Take the objects whose centre lies in a window; places become those within it."""
    found = table
    for axis, side in zip("YX", window, strict=True):
        start, centre = side.start or 0, found[f"Location_Center_{axis}"]
        inside = centre >= start
        if side.stop is not None:
            inside &= centre < side.stop
        found = found[inside].copy()
        names = [
            name for name in feature_columns(found)
            if name.startswith("Location_") and name.split("_")[2] == axis
        ]  # fmt: skip
        found[names] -= start
    return found


def _by_group(truth: ImageSet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in truth.ids:
        found.setdefault(_text(truth.row(name).get("group")) or name, []).append(name)
    return dict(sorted(found.items()))


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _measured(
    source: _Source, group: str, names: Sequence[str]
) -> tuple[dict[Boundaries, pd.DataFrame], pd.DataFrame]:
    """Measure the images of a group; return objects by kind, and all sites."""
    options = source.config.translate
    objects: dict[Boundaries, list[pd.DataFrame]] = {k: [] for k in options.boundaries}
    sites = []
    for name in names:
        row = source.truth.row(name)
        about = {c: _text(row.get(c)) for c in ABOUT} | {"group": group}
        tables = {kind: source.objects(name, kind) for kind in objects}
        for place, window in blocks(source.truth.shape(name), options.blocks):
            where = {"id": name + place} | about
            if place:
                where["group"] = name + place
            sites.append(where)
            for kind, table in tables.items():
                part = _placed(table, place, window)
                lead = pd.DataFrame(where, index=part.index)
                objects[kind].append(pd.concat([lead, part], axis=1))
    return {k: pd.concat(v) for k, v in objects.items()}, pd.DataFrame(sites)


def _summaries(
    objects: Mapping[Boundaries, pd.DataFrame], units: pd.DataFrame, key: str
) -> pd.DataFrame:
    """Summarise the objects of each unit, which may have none."""
    rows = []
    for _, unit in units.iterrows():
        row = unit.to_dict()
        for kind, table in objects.items():
            row |= site_features(table[table[key] == unit[key]], kind).to_dict()
        rows.append(row)
    return pd.DataFrame(rows)


def measure_profiles(
    config: Config, *, pairs: Path, profiles: Output,
    translated: list[Path] | None = None, objects: str = "found", shard: int = 0,
) -> None:  # fmt: skip
    """Measure features of the objects of the test part, on real or predicted stains.

    Without `translated`, on real stains. A shard has whole wells, and one well at a
    time is in memory.
    """
    options, truth = config.translate, ImageSet.open(pairs).select(split="test")
    if objects not in get_args(Profiled):
        raise PhantomscopeError(
            f"objects cannot be {objects!r}", where="--objects",
            fix=f"give one of {', '.join(get_args(Profiled))}",
        )  # fmt: skip
    holders = holders_of(truth, translated) if translated else {}
    source = _Source(config, truth, holders, objects)  # type: ignore[arg-type]
    groups = list(_by_group(truth).items())[shard :: options.shards]
    sites, wells = [], []
    with (
        ExitStack() as stack,
        Progress("measuring", len(groups), unit="wells") as progress,
    ):
        files = {
            kind: stack.enter_context(atomic_file(profiles / f"{kind}.csv.gz"))
            for kind in options.boundaries
        }
        for path in files.values():
            path.write_bytes(b"")
        for group, names in groups:
            found, units = _measured(source, group, names)
            for kind, table in found.items():
                _append(table, files[kind])
            sites.append(_summaries(found, units, "id"))
            known = units.drop(columns="id").drop_duplicates("group")
            wells.append(_summaries(found, known, "group"))
            progress.advance()
    for name, parts in (("sites", sites), ("wells", wells)):
        whole = pd.concat(parts) if parts else pd.DataFrame(columns=["id", *ABOUT])
        text = whole.to_csv(index=False, float_format=DIGITS)
        write_text(profiles / f"{name}.csv", text)


def _append(table: pd.DataFrame, path: Path) -> None:
    """Add rows as one more member of a gzip file, without name or date."""
    text = table.to_csv(
        index=False, header=not path.stat().st_size, float_format=DIGITS
    )
    with path.open("ab") as stream:
        stream.write(gzip.compress(text.encode(), 6, mtime=0))


def compare_profiles(
    config: Config, *, real: list[Path], profiles: list[Path], scores: Output,
    method: str, objects: str = "found",
) -> None:  # fmt: skip
    """Correlate features of real and predicted stains, and retrieve replicates.

    `real` are the shards in their order; `profiles` those of the first seed, then those
    of the next one, and so on. One shard of each is in memory at a time.
    """
    given, seeds = config.evaluate, len(config.translate.seeds)
    if not real or len(profiles) != seeds * len(real):
        raise PhantomscopeError(
            f"{len(real)} shards of real objects and {len(profiles)} of {seeds} seeds "
            "do not go together", where="--profiles",
            fix="give all shards of each seed, in their order",
        )  # fmt: skip
    drawn: dict[str, Any] = {
        "resamples": given.resamples, "confidence": given.confidence,
        "seed": config.seed,
    }  # fmt: skip
    moments, wells = _all_moments(config, real, profiles), _wells(real)
    levels = [
        level for level in get_args(Level)
        # A block is a site and a well at once.
        if not (level == "well" and config.translate.blocks)
    ]  # fmt: skip
    correlations = pd.concat([
        category_rows(moments.get(level, []), groups_of_lines(wells), level, **drawn)
        for level in levels
    ])  # fmt: skip
    repeats = [
        _wells(profiles[n : n + len(real)]) for n in range(0, len(profiles), len(real))
    ]
    control = config.translate.plates.control
    retrieval = pd.concat([
        retrieval_rows(tables, control, **drawn).assign(source=name)
        for name, tables in (("real", [wells]), (method, repeats))
    ])  # fmt: skip
    for name, table in (("correlations", correlations), ("retrieval", retrieval)):
        # Not `true` alone, which tables take for a truth value.
        about = {"method": method, "objects": f"{objects} objects"}
        text = table.assign(**about).to_csv(index=False)
        write_text(scores / f"{name}.csv", text)


def _all_moments(
    config: Config, real: Sequence[Path], profiles: Sequence[Path]
) -> dict[Level, list[Moments]]:
    """Return the moments of each level for each seed, read shard by shard."""
    seeds = len(config.translate.seeds)
    parts: dict[Level, list[list[Moments]]] = {}
    with Progress("comparing", len(profiles), unit="shards") as progress:
        for number, folder in enumerate(profiles):
            seed, shard = divmod(number, len(real))
            for level, one in _moments(config, real[shard], folder):
                found = parts.setdefault(level, [[] for _ in range(seeds)])
                found[seed].append(one)
            progress.advance()
    return {
        level: [Moments.joined(one) for one in found] for level, found in parts.items()
    }


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path)
    known = table[[c for c in ABOUT if c in table]].astype(object).fillna("")
    texts = {name: known[name].astype(str) for name in known}
    return table.assign(**texts)


def _wells(folders: Sequence[Path]) -> pd.DataFrame:
    return pd.concat([_read(folder / "wells.csv") for folder in folders])


def _moments(
    config: Config, real: Path, synthetic: Path
) -> Iterator[tuple[Level, Moments]]:
    """Yield the moments of a shard: of each kind of object, of sites and of wells."""
    for kind in config.translate.boundaries:
        first, second = (_read(p / f"{kind}.csv.gz") for p in (real, synthetic))
        if not (len(first) and len(second)):
            continue
        second = second[second["match"] > 0]
        first = first.set_index(["id", "label"])
        second = second.set_index(["id", "match"])
        one = Moments.paired(_features(first), _features(second), first["group"])
        names = tuple(f"{KINDS[kind]}_{name}" for name in one.columns)
        yield "object", Moments(one.groups, names, one.values)
    levels: tuple[tuple[Level, str, str], ...] = (
        ("site", "sites", "id"), ("well", "wells", "group"),
    )  # fmt: skip
    for level, name, key in levels:
        first, second = (
            _read(p / f"{name}.csv").set_index(key, drop=False)
            for p in (real, synthetic)
        )
        if set(first.index) != set(second.index):
            raise PhantomscopeError(
                f"these shards do not hold the same {name}",
                where=f"{real}, {synthetic}",
                fix="give all shards of each seed, in their order",
            )
        if len(first):
            one = Moments.paired(_features(first), _features(second), first["group"])
            yield level, one


def _features(table: pd.DataFrame) -> pd.DataFrame:
    return table[feature_columns(table)]
