"""The report: one HTML file with everything in it, for a person who wants to know."""

from __future__ import annotations

import base64
import importlib.metadata
import math
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from phantomscope.config.model import Config
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import voxel_size
from phantomscope.tables import figures_populations as populations
from phantomscope.tables import headline as say
from phantomscope.tables import profiles, significance, studies, translation_text
from phantomscope.tables import restoration as restored
from phantomscope.tables import translation as translated
from phantomscope.tables.artefacts import origin, pixel_size
from phantomscope.tables.citations import citations
from phantomscope.tables.figures import FIGURES, available
from phantomscope.tables.figures_curves import duration, stage_costs
from phantomscope.tables.filter_text import filtering_section
from phantomscope.tables.published import read_rows
from phantomscope.tables.results import (
    ResultRow,
    definitions,
    segmentation_rows,
    wide_table,
    with_interval,
)
from phantomscope.tables.style import TOOLS

PACKAGES = (
    "phantomscope", "torch", "numpy", "scipy", "scikit-image", "pandas", "numba",
    "cellpose", "stardist", "csbdeep", "tensorflow", "tensorflow-cpu", "tifffile",
    "pydantic", "matplotlib", "snakemake",
)  # fmt: skip
# What figures of volumes show, for their captions.
VIEWS = (
    " Of each volume the plane XY is shown, beside it YZ and below it XZ, through the "
    "places with the most labelled voxels (of real images: the brightest ones)."
)


def write_report(root: Path, config: Config, out: Path) -> None:
    """Write the report of an experiment as one HTML file without outside resources.

    Parameters
    ----------
    root : Path
        Folder of the experiment. What is absent is left out; without scores the
        report says that nothing was measured.
    config : Config
        Config of the experiment.
    out : Path
        The HTML file.

    Raises
    ------
    PhantomscopeError
        If a file of the experiment is broken.
    """
    import jinja2

    root = Path(root)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("phantomscope", "tables"), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    template = environment.get_template("report.html.jinja")
    write_text(Path(out), template.render(_content(root, config)))


def _content(root: Path, config: Config) -> dict[str, Any]:
    translation, filtering = _translation(root, config), filtering_section(root, config)
    another = translation or filtering
    rows = [] if another else segmentation_rows(root, config)
    measured = any(not math.isnan(row.value) for row in rows)
    restoration = _restoration(root, config)
    own = another or (not config.segment.tools and restoration)
    cautions = (
        another["cautions"]
        if another
        else [*say.cautions(root, config, rows), *restoration.get("cautions", [])]
    )
    return {
        "translation": translation,
        "filtering": filtering,
        "restoration": restoration,
        # Filtering has objects of its own.
        "segmented": bool(config.segment.tools) and not filtering,
        "name": config.name,
        "scale": config.scale,
        "headline": own["headline"] if own else say.headline(
            rows, annotated_shape=config.simulate.learns_shape
        ),
        "measured": measured,
        "comparisons": say.comparisons(rows),
        "cautions": cautions,
        "table": wide_table(rows, config.evaluate.confidence) if measured else [],
        "ratios": _ratios(rows),
        "confidence": f"{100 * config.evaluate.confidence:g}%",
        "definitions": definitions(rows),
        "figures": _figures(root, config),
        "facts": _facts(root),
        "data": _data(root),
        "distances": _json(root / "realism.json").get("distances", {}),
        "origin": origin(config),
        "populations": populations.table_rows(root),
        "compared": populations.source_of(root),
        "copying": (say.copying(root) or (0.0, ""))[1],
        "start": _json(root / "start.json"),
        "fit": _json(root / "fit.json").get("types", []),
        "skipped": _json(root / "fit.json").get("skipped", {}),
        "summary": _json(root / "checked" / "summary.json"),
        "views": VIEWS if _has_volumes(root) else "",
        "published": _json(root / "published" / "datasheet.json"),
        "models": [*_models(root, config), *_restorers(root, config)],
        "total": _total(root),
        "config": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        "versions": _versions(),
        "citations": citations(config, restored=bool(restoration)),
    }  # fmt: skip


def _translation(root: Path, config: Config) -> dict[str, Any]:
    """Return what the report says of translation; nothing without any."""
    if not config.translate.methods:
        return {}
    rows = translated.translation_rows(root, config)
    tests = significance.significance_rows(root, config)
    features = profiles.profile_rows(root, config)
    table = root / "tables/studies.csv"
    studied = read_rows(table) if table.exists() else []
    return {
        "headline": translated.headline(rows, config),
        "cautions": translated.translation_cautions(rows, config),
        "table": translated.translation_table(rows),
        "instances": translated.instance_tables(rows),
        "ratios": translated.ratio_lines(rows),
        "notes": translation_text.translation_notes(rows, config),
        "tests": significance.significance_table(significance.shown(tests)),
        "test_notes": significance.significance_notes(config),
        "features": profiles.profile_table(features),
        "retrieval": profiles.retrieval_lines(features),
        "feature_notes": profiles.profile_notes(features, config),
        "studies": studies.study_sections(studied),
        "studied": [
            *studies.spot_sentences(studied),
            *studies.study_notes(studied, config),
        ],
    }


def _restoration(root: Path, config: Config) -> dict[str, Any]:
    """Return what the report says of restoration; nothing without any."""
    if not config.restore.arms:
        return {}
    rows, confidence = (
        restored.restoration_rows(root, config),
        config.evaluate.confidence,
    )
    return {
        "headline": restored.headline(rows, confidence),
        "cautions": restored.restoration_cautions(rows, config),
        "table": restored.restoration_table(rows),
        "ratios": restored.ratio_lines(rows),
        "notes": restored.restoration_notes(rows, confidence),
    }


def _restorers(root: Path, config: Config) -> list[dict[str, str]]:
    """Return how to load each trained network of restoration."""
    found = []
    for arm in config.restore.arms:
        for path in sorted((root / "restorers/care" / arm).glob("*/training.json")):
            record, folder = read_json(path), path.parent.absolute()
            found.append({
                "title": f"CARE, {arm}, {folder.name.replace('seed', 'seed ')}",
                "how": f"trained on {record['pairs']} pairs, {record['held_out']} held "
                       f"out, in {duration(float(record['seconds']))}",
                "versions": ", ".join(f"{k} {v}"
                                      for k, v in record["versions"].items()),
                "code": "from csbdeep.models import CARE\n"
                        "from csbdeep.utils import normalize\n"
                        f"model = CARE(None, {folder.name!r}, {str(folder.parent)!r})\n"
                        'restored = model.predict(normalize(image, 2, 99.8), "YX", '
                        "normalizer=None)\n",
            })  # fmt: skip
    return found


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def _figures(root: Path, config: Config) -> dict[str, str]:
    """Return the figures as data URLs; those that exist are taken as they are."""
    pictures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in available(root):
            path = root / "figures" / f"{name}.png"
            if not path.exists():
                path = Path(folder) / f"{name}.png"
                FIGURES[name][0](root, config, path)
            pictures[name] = _data_url(path)
    # What other stages drew.
    for name, made in (
        ("published", root / "published" / "preview.png"),
        ("contact_sheet", root / "figures" / "contact_sheet.png"),
    ):
        if made.exists():
            pictures[name] = _data_url(made)
    return pictures


def _data_url(path: Path) -> str:
    code = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{code}"


def _has_volumes(root: Path) -> bool:
    """Whether the real images are volumes."""
    if not (root / "prepared" / "manifest.csv").exists():
        return False
    return bool((ImageSet.open(root / "prepared").table["axes"] == "ZYX").any())


def _ratios(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    found = []
    for row in rows:
        if " / " in row.condition:
            pair = row.condition.replace(" (better tool)", "").split(" / ")
            names = [
                f"{TOOLS.get(tool, tool)} ({arm})"
                for tool, _, arm in (one.partition(" ") for one in pair)
            ]
            found.append({
                "what": " / ".join(names).replace("Otsu-watershed (annotated)",
                                                  "Otsu-watershed"),
                "ratio": with_interval(row),
                "better": "yes" if "(better tool)" in row.condition else "",
            })  # fmt: skip
    return found


def _facts(root: Path) -> list[tuple[str, str]]:
    """Return the few numbers beside the headline: how much of everything."""
    facts = []
    if (root / "prepared" / "manifest.csv").exists():
        prepared = ImageSet.open(root / "prepared")
        for split, label in (
            ("train", "real training images"), ("test", "real held-out images"),
        ):  # fmt: skip
            facts.append((str(len(prepared.select(split=split))), label))
    summary = _json(root / "checked" / "summary.json")
    if summary:
        facts.append((f"{summary['kept']:,}", "synthetic images kept"))
        facts.append((f"{summary['objects']:,}", "labelled objects simulated"))
    if total := _total(root):
        facts.append((total, "computing time"))
    return facts


def _data(root: Path) -> list[tuple[str, str]]:
    """Return where the data comes from, its licence and how it was split."""
    if not (root / "prepared" / "manifest.csv").exists():
        return []
    prepared = ImageSet.open(root / "prepared")
    info = prepared.info
    known = [
        (label, str(info[key]))
        for key, label in (
            ("name", "Data"), ("origin", "Origin"), ("licence", "Licence"),
            ("citation", "Citation"),
        )
        if info.get(key)
    ]  # fmt: skip
    if not info.get("licence"):
        known.append(("Licence", "not recorded: these are the user's own images"))
    known.append(_said_size(prepared))
    if split := info.get("split"):
        margin = f", {split['margin']} px margin" if split.get("margin") else ""
        known.append(("Split", f"by {split.get('by')}{margin}; no pixel is shared"))
    return known


def _said_size(images: ImageSet) -> tuple[str, str]:
    """Return the pixel size, or of volumes all three lengths of a voxel."""
    size = voxel_size(images)
    if len(size) == 3:
        lengths = " x ".join(f"{x:g} µm" if x else "unknown" for x in size)
        return "Voxel size (z, y, x)", lengths
    side = pixel_size(images)
    return "Pixel size", f"{side:g} µm" if side else "unknown; sizes are in px"


def _models(root: Path, config: Config) -> list[dict[str, str]]:
    """Return how to load each trained model."""
    found = []
    for path in sorted((root / "models").glob("*/*/*/training.json")):
        tool, arm, seed = path.parent.parts[-3:]
        record = read_json(path)
        if tool not in ("cellpose", "stardist"):
            continue
        found.append({
            "title": f"{TOOLS.get(tool, tool)}, {arm}, {seed.replace('seed', 'seed ')}",
            "how": f"trained on {record.get('images', '?')} images with "
                   f"{record.get('objects', '?')} objects in "
                   f"{duration(float(record.get('seconds', 0)))}",
            "versions": ", ".join(f"{k} {v}"
                                  for k, v in record.get("versions", {}).items()),
            "code": _snippet(tool, path.parent),
        })  # fmt: skip
    order: dict[str, int] = {arm: n for n, arm in enumerate(config.segment.arms)}

    def place(model: dict[str, str]) -> tuple[int, str]:
        _, arm, seed = model["title"].split(", ")
        return order.get(arm, len(order)), seed

    return sorted(found, key=place)


def _snippet(tool: str, folder: Path) -> str:
    try:
        # Lazily: the report can be written where the tools are not installed.
        from phantomscope.downstream.run import loader_snippet
    except ImportError:
        return (
            "from pathlib import Path\n"
            f"from phantomscope.downstream import {tool}\n"
            f"labels = {tool}.load(Path({str(folder.absolute())!r}), 2)(image)\n"
        )
    return loader_snippet(tool, folder)


def _total(root: Path) -> str:
    costs: pd.DataFrame = stage_costs(root)
    return duration(float(costs["seconds"].sum())) if len(costs) else ""


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version()), ("system", platform.platform())]
    for package in PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
