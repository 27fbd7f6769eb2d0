"""Stages of what is read in the end: the whole config, tables, figures and report."""

from __future__ import annotations

from pathlib import Path

import yaml

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.stages.arguments import Output, Place


def write_config(config: Config, *, resolved: Output) -> None:
    """Write the whole config, with all defaults filled in."""
    content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(resolved, content)


def _check_root(root: Path) -> None:
    """Refuse a folder without `config.yaml`: each experiment writes one there.

    What is absent below is left out, so a wrong folder would give empty tables.
    """
    fix = "give as `--root` the folder of a run, such as results/demo"
    if not root.is_dir():
        raise PhantomscopeError(
            "the folder of the experiment does not exist", where=root, fix=fix
        )
    if not (root / "config.yaml").is_file():
        raise PhantomscopeError(
            "this is no folder of an experiment: it has no config.yaml",
            where=root / "config.yaml",
            fix=f"{fix}; if its stages ran by hand, write the file: `write-config`",
        )


def tabulate(
    config: Config, *, root: Place, csv: Output, md: Output, per_image: Output
) -> None:
    """Put all scores into one table of results."""
    from phantomscope.tables.results import (
        per_image_table,
        segmentation_rows,
        write_tables,
    )

    _check_root(root)
    write_tables(
        segmentation_rows(root, config), csv, md, confidence=config.evaluate.confidence
    )
    write_text(per_image, per_image_table(root).to_csv(index=False))


def draw_figures(config: Config, *, root: Place, figures: list[Output]) -> None:
    """Draw the figures; each file is named after its figure."""
    from phantomscope.tables.figures import FIGURES

    _check_root(root)
    for path in figures:
        path.parent.mkdir(parents=True, exist_ok=True)
        FIGURES[path.stem][0](root, config, path)


def report(config: Config, *, root: Place, html: Output) -> None:
    """Write the report: one HTML file with all pictures and tables."""
    from phantomscope.tables.report import write_report

    _check_root(root)
    write_report(root, config, html)
