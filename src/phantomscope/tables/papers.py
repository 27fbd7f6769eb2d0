"""All papers: which module makes the tables and figures of which one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.tables import (
    cellresdm,
    eschweiler,
    figures_eschweiler,
    figures_saguy,
    figures_semantic_filtering,
    saguy,
    semantic_filtering,
)
from phantomscope.tables.figures_curves import say_nothing
from phantomscope.tables.paper import PaperFigure, PaperTable, Part
from phantomscope.tables.style import house_style, save


@dataclass(frozen=True)
class Makers:
    """How tables and figures of a paper are made.

    Attributes
    ----------
    tables : callable
        Takes the parts by `Part.key` and gives the tables by name. What is absent is
        "not run" in them.
    figures : mapping of str to PaperFigure
        By name.
    """

    tables: Callable[[Mapping[str, Part]], dict[str, PaperTable]]
    figures: Mapping[str, PaperFigure]


MAKERS = {
    "eschweiler": Makers(eschweiler.paper_tables, figures_eschweiler.FIGURES),
    "saguy": Makers(saguy.paper_tables, figures_saguy.FIGURES),
    "cellresdm": Makers(cellresdm.paper_tables, cellresdm.FIGURES),
    "semantic_filtering": Makers(
        semantic_filtering.paper_tables, figures_semantic_filtering.FIGURES
    ),
}


def write_tables(paper: str, parts: Mapping[str, Part], files: Sequence[Path]) -> None:
    """Write tables of a paper into files that are named after them, as ``fig2.md``.

    Parameters
    ----------
    paper : str
        Key of the paper.
    parts : mapping of str to Part
        As `load_parts` gives them; may be empty.
    files : sequence of Path
        CSV or Markdown.

    Raises
    ------
    PhantomscopeError
        If a file has another name, or a table of a part is broken.
    """
    tables = MAKERS[paper].tables(parts)
    for path in files:
        if path.stem not in tables or path.suffix not in (".csv", ".md"):
            raise PhantomscopeError(
                "there is no such table of the paper",
                where=path,
                fix=f"name .csv and .md files after {', '.join(tables)}",
            )
    levels = sorted({part.config.evaluate.confidence for part in parts.values()})
    level = " or ".join(f"{100 * value:g}%" for value in levels)
    for path in files:
        table = tables[path.stem]
        if path.suffix == ".csv":
            write_text(path, table.frame.to_csv(index=False))
        else:
            write_text(path, "\n".join(table.text(table.frame, level)) + "\n")


def draw_figure(parts: Sequence[Part], out: Path) -> None:
    """Draw one figure of all parts for which its data is there.

    Parameters
    ----------
    parts : sequence of Part
        Of one paper.
    out : Path
        PNG file, named after the figure.

    Raises
    ------
    PhantomscopeError
        If there is no such figure, or no part with its data.
    """
    figures = MAKERS[parts[0].paper].figures
    if out.stem not in figures:
        raise PhantomscopeError(
            f"the paper's figure {out.stem!r} is not drawn",
            where=out,
            fix=f"name files after {', '.join(figures)}",
        )
    figure = figures[out.stem]
    there = [
        part for part in figure.of(parts)
        if all(any(part.root.glob(pattern)) for pattern in figure.needs)
    ]  # fmt: skip
    if not there and not figure.absent:
        raise PhantomscopeError(
            f"no organism has what {out.stem} shows ({', '.join(figure.needs)})",
            where=", ".join(str(part.root) for part in parts),
            fix="run the stages that make it first",
        )
    with house_style():
        if there:
            save(figure.draw(there), out)
        else:
            say_nothing(out, figure.absent)
