"""Localisations: how fast they are drawn; a table of ten million from file to image.

`python -m benchmarks.rendering TABLE` draws a table in this process and prints a line
of JSON; the area `rendering` runs it in processes of their own, so that each has its
own peak of memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.laboratory import run
from benchmarks.table import Row
from phantomscope.acquire.localisations.draw import draw_table
from phantomscope.config.localisations import Localisations as Options
from phantomscope.images.localisations.render import Kind, View, render
from phantomscope.images.localisations.table import Localisations, TableSource

SIDE = 40_000.0  # nm
PIXEL = 20.0  # nm
PRECISION = (5.0, 20.0)  # nm
HEADER = '"frame","x [nm]","y [nm]","intensity [photon]","uncertainty_xy [nm]"\n'
BLOCK = 100_000
COMMAND = "python -m benchmarks rendering"


def molecules(count: int) -> Localisations:
    """Return molecules all over a field of 40 um."""
    rng = np.random.default_rng(0)
    return Localisations(
        x=rng.random(count) * SIDE, y=rng.random(count) * SIDE, frame=None,
        photons=None, uncertainty=rng.uniform(*PRECISION, count),
        source=TableSource(Path("benchmark"), {}, {}, count, 0),
    )  # fmt: skip


def mega_per_second(count: int, kind: Kind, repeats: int = 5) -> float:
    """Return millions of molecules drawn a second, the median; compiled before."""
    table, view = molecules(count), View.of_field(0, 0, SIDE, SIDE, PIXEL)
    render(table.take(slice(0, 100)), view, kind)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        assert render(table, view, kind).sum() > 0
        seconds.append(time.perf_counter() - begin)
    return count / float(np.median(seconds)) / 1e6


def write_table(path: Path, rows: int) -> Path:
    """Write a table of ThunderSTORM; its rows come again after 100,000."""
    table = molecules(min(rows, BLOCK))
    columns = zip(table.x, table.y, table.uncertainty, strict=True)
    block = "".join(
        f"{n},{x:.3f},{y:.3f},1234.567,{s:.3f}\n"
        for n, (x, y, s) in enumerate(columns, 1)
    )
    with path.open("w") as stream:
        stream.write(HEADER)
        for _ in range(rows // len(table)):
            stream.write(block)
    return path


def drawn(path: Path) -> dict[str, float]:
    """Draw a table, and tell the seconds and the largest resident memory, MB."""
    begin = time.perf_counter()
    drawing = draw_table(path, Options(pixel_size_nm=PIXEL))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "rows": drawing.facts["table_rows"]}


def rows(
    folder: Path, count: int = 5_000_000, table_rows: int = 10_000_000
) -> list[Row]:
    """Draw molecules in memory, then a large table and one of a tenth of its rows."""
    pixels = f"{SIDE / PIXEL:.0f} x {SIDE / PIXEL:.0f} px of {PIXEL:.0f} nm"
    what = (
        f"million localisations drawn a second, {count / 1e6:g} million into {pixels}"
    )
    on = "one thread, median of 5"
    spread = f"precision {PRECISION[0]:.0f} to {PRECISION[1]:.0f} nm"
    found = []
    for size in (table_rows // 10, table_rows):
        path = write_table(folder / f"{size}.csv", size)
        line = run([sys.executable, "-m", "benchmarks.rendering", str(path)])
        found.append(json.loads(line.splitlines()[-1]))
        path.unlink()
    small, large = found
    table = f"{large['rows'] / 1e6:g} million rows of text to an image of {pixels}"
    image = f"the image has {(SIDE / PIXEL) ** 2 * 8 / 2**20:.0f} MB"
    return [
        Row("saguy.rendering_mega_per_second", f"histogram: {what}", on,
            mega_per_second(count, "histogram"), "million/s", ">= 5", COMMAND),
        Row("saguy.rendering_gaussian_mega_per_second",
            f"Gaussians integrated over pixels, {spread}: {what}", on,
            mega_per_second(count, "gaussian"), "million/s", ">= 1", COMMAND),
        Row("saguy.table_seconds", f"{table}; each row is read twice", on,
            large["seconds"], "s", "<= 60", COMMAND),
        Row("saguy.table_memory_growth",
            f"{table}: peak resident memory ({large['peak_mb']:.0f} MB) over that of a "
            f"tenth of the rows ({small['peak_mb']:.0f} MB), minus 1", on,
            large["peak_mb"] / small["peak_mb"] - 1, "", "<= 0.1", COMMAND,
            floor=image),
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(drawn(Path(sys.argv[1]))))
