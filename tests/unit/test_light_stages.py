"""What a stage imports before it begins: hundreds of jobs wait for it."""

from __future__ import annotations

import json
import subprocess
import sys

from phantomscope.stages.registry import STAGES

# One process imports them in this order and says what each step brought.
CODE = """
import importlib, json, sys
found = {}
for step in sys.argv[1:]:
    importlib.import_module(f"phantomscope.{step}")
    found[step] = sorted(
        name for name in %r if name in sys.modules
    )
print(json.dumps(found))
"""
HEAVY = (
    "torch", "tensorflow", "cellpose", "numba", "matplotlib", "zarr", "scipy.stats",
    "scipy.signal", "scipy.optimize", "skimage.morphology",
)  # fmt: skip
# Stages that read, check, compare and tabulate; and all tables, without their drawing.
LIGHT = (
    "stages.rule", "stages.registry", "stages.results", "stages.papers", "stages.data",
    "stages.plates", "stages.checking", "stages.publish", "stages.populations",
    "stages.pseudo", "stages.restoration", "stages.analysis", "stages.finding",
    "stages.translated", "stages.detection", "tables.results",
    "tables.report", "tables.papers", "tables.restoration", "tables.figures",
)  # fmt: skip
# They draw or look at texture, with numba; so what is looked for is found.
DRAWING = ("stages.localising", "stages.sketching", "stages.profiles")


def test_stages_import_what_they_need_and_no_more():
    done = subprocess.run(
        [sys.executable, "-c", CODE % (HEAVY,), *LIGHT, *DRAWING],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {step: found[step] for step in LIGHT} == {step: [] for step in LIGHT}
    assert {step: found[step] for step in DRAWING} == {s: ["numba"] for s in DRAWING}


def test_a_stage_is_looked_up_where_it_is_written():
    for name, stage in STAGES.items():
        assert stage.__name__ == name
        # One that is written elsewhere would bring a second module.
        assert stage.__module__.startswith("phantomscope.stages.")
        assert STAGES[name] is getattr(sys.modules[stage.__module__], name)
    assert "no_stage" not in STAGES
    assert len(STAGES) == len(set(STAGES))
