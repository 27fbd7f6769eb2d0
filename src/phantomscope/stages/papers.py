"""Stages of a paper: its tables and figures, from the results of its organisms."""

from __future__ import annotations

from phantomscope.config.model import Config
from phantomscope.stages.arguments import Output, Place


def tabulate_paper(config: Config, *, parts: list[Place], tables: list[Output]) -> None:
    """Put the published values of Eschweiler & Stegmaier beside ours."""
    from phantomscope.tables.paper import load_parts, write_files

    write_files(load_parts(parts), tables)


def draw_paper(config: Config, *, parts: list[Place], figures: list[Output]) -> None:
    """Draw figures of Eschweiler & Stegmaier; each file is named after its figure."""
    from phantomscope.tables.figures_paper import draw_parts
    from phantomscope.tables.paper import load_parts

    found = list(load_parts(parts).values())
    for path in figures:
        draw_parts(path.stem, found, path)
