"""Time and memory of the simulators at the published sizes.

`python -m benchmarks.simulators ORGANISM VARIANT` draws sketches in this process, by
one thread, and prints a line of JSON; the area `simulators` runs each in a process of
its own. The released simulators were timed on the same kind of machine, on two cores.
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
from phantomscope.config.simulation import Simulate
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.sketch import simulate_sketch

# Published sizes; number of nuclei; seconds of the released simulator.
PUBLISHED = {
    "hela": ((700, 1100), 450, 1.4),
    "gowt1": ((1024, 1024), 30, 2.1),
    "celegans": ((35, 512, 708), 100, 4.7),
    "tribolium": ((13, 2450, 1700), 3000, None),
}
VARIANTS = ("code", "paper")
# No published variant looks at fitted parameters.
UNUSED = SketchParameters(
    types=[
        SketchType(
            name="none", radius=[1] * 7, elongation=[1] * 7, intensity=[0] * 7,
            density=[0] * 7, clustering=0,
        )
    ]
)  # fmt: skip


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(organism: str, variant: str, repeats: int = 9) -> dict[str, float]:
    """Draw sketches and return the median time, the memory and what was drawn.

    The first sketch loads compiled code and is not counted. Every pixel of sketch and
    labels is read within the time, so that memory which the system gives only when it
    is touched hides nothing.
    """
    size, objects, _ = PUBLISHED[organism]
    options = Simulate(
        organism=organism, variant=variant, size=size, objects=objects
    )  # fmt: skip
    small = tuple(min(side, 64) for side in size)
    simulate_sketch(UNUSED, options.model_copy(update={"size": small}), 0, 0)
    before, seconds, counts = _peak_memory(), [], []
    for index in range(repeats):
        begin = time.perf_counter()
        sketch, labels, _ = simulate_sketch(UNUSED, options, 0, index)
        count, _brightest = int(labels.max()), float(sketch.max())
        seconds.append(time.perf_counter() - begin)
        counts.append(count)
        written = sketch.nbytes + labels.nbytes
        if index == 0:
            peak = _peak_memory() - before
        del sketch, labels
    begin = time.perf_counter()
    np.full(size, 0.5, np.float32), np.full(size, 1, np.uint16)
    return {
        "seconds": float(np.median(seconds)), "slowest": max(seconds),
        "objects": float(np.median(counts)), "written_mb": written / 2**20,
        "fill_seconds": time.perf_counter() - begin, "peak_mb": peak,
        "before_mb": before,
    }  # fmt: skip


def rows(folder: Path) -> list[Row]:
    """Time the published variants of all organisms; the slower one counts."""
    found = []
    for organism in PUBLISHED:
        command = [sys.executable, "-m", "benchmarks.simulators", organism]
        results = {
            variant: json.loads(run([*command, variant]).splitlines()[-1])
            for variant in VARIANTS
        }
        found.append(_row(organism, results))
    return found


def _row(organism: str, results: dict[str, dict[str, float]]) -> Row:
    size, objects, reference = PUBLISHED[organism]
    shape = " x ".join(str(side) for side in size)
    each = "; ".join(
        f"variant {name}: {1000 * r['seconds']:.0f} ms (slowest "
        f"{1000 * r['slowest']:.0f}), {r['objects']:.0f} nuclei, peak memory "
        f"{r['peak_mb']:.0f} MB over the process"
        for name, r in results.items()
    )
    slower = max(results.values(), key=lambda r: r["seconds"])
    command = "python -m benchmarks simulators"
    floor = (
        f"sketch and labels have {slower['written_mb']:.0f} MB; to fill them with a "
        f"constant takes {1000 * slower['fill_seconds']:.0f} ms"
    )
    what = f"{shape}, up to {objects} nuclei, one thread, median of 9 sketches ({each})"
    if reference is None:
        return Row(f"simulate.{organism}_seconds", f"one labelled sketch of {what}",
                   "the slower variant", slower["seconds"], "s", "<= 5", command,
                   floor=floor)  # fmt: skip
    ratio = reference / slower["seconds"]
    return Row(f"simulate.{organism}_speedup", f"labelled sketches of {what}",
               f"the released simulator on two cores, {reference} s; the slower "
               "variant", ratio, "x", ">= 20", command, baseline=reference,
               ratio=ratio, floor=floor)  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(timed(*sys.argv[1:3])))
