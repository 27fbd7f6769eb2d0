"""Stages of a paper: its tables and figures, from the results of its parts."""

from __future__ import annotations

from phantomscope.config.model import Config
from phantomscope.stages.arguments import Output, Place


def tabulate_paper(config: Config, *, parts: list[Place], tables: list[Output]) -> None:
    """Put the published values of a paper beside ours; files are named after tables."""
    from phantomscope.tables.paper import load_parts
    from phantomscope.tables.papers import write_tables

    found = load_parts(parts)
    write_tables(next(iter(found.values())).paper, found, tables)


def draw_paper(config: Config, *, parts: list[Place], figures: list[Output]) -> None:
    """Draw figures of a paper; each file is named after its figure."""
    from phantomscope.tables.paper import load_parts
    from phantomscope.tables.papers import draw_figure

    found = list(load_parts(parts).values())
    for path in figures:
        draw_figure(found, path)
