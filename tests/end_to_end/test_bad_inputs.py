"""Bad input gets one clear error: which file or key, how to mend it, nothing left."""

import gzip
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.bad_inputs import (
    CASES,
    CONTROLS,
    Answer,
    Case,
    by_kind,
    check,
    markdown,
)
from benchmarks.bad_inputs.model import CANARY, Invocation, Trap

from phantomscope.errors import PhantomscopeError

pytestmark = pytest.mark.end_to_end


def test_there_are_enough_different_cases():
    names = [case.name for case in [*CASES, *CONTROLS]]
    assert len(CASES) >= 200
    assert len(set(names)) == len(names)
    assert all(case.expect for case in CASES)
    kinds = Counter(case.kind for case in CASES)
    assert kinds["localisations"] >= 25
    assert kinds["archive"] + kinds["download"] >= 25
    assert kinds["checkpoint"] >= 25


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_answered_well(case, lab, tmp_path):
    answer = check(case, tmp_path, lab)
    if answer.skipped:
        pytest.skip(answer.why_not)
    assert answer.ok, f"{answer.why_not}\n{answer.message}"


@pytest.mark.parametrize("case", CONTROLS, ids=lambda case: case.name)
def test_what_is_unusual_but_fine_works(case, lab, tmp_path):
    answer = check(case, tmp_path, lab)
    assert answer.ok, f"{answer.why_not}\n{answer.message}"


# The sweep itself


def load_unsafely(path: Path):
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize(
    ("name", "careless"),
    [
        ("model-is-a-trap", lambda p: pickle.loads(p.read_bytes())),
        ("model-is-an-old-trap", lambda p: pickle.loads(p.read_bytes())),
        ("model-is-a-packed-trap", lambda p: pickle.load(gzip.open(p))),
        ("model-is-a-trapped-archive", load_unsafely),
        ("model-with-trapped-weight", load_unsafely),
        ("model-of-old-torch-with-trap", load_unsafely),
        ("model-with-trapped-record", load_unsafely),
        ("model-calls-the-shell", load_unsafely),
        ("model-calls-eval", load_unsafely),
        ("model-of-numpy", lambda p: np.load(p, allow_pickle=True)),
    ],
)  # fmt: skip
def test_the_payloads_are_armed(name, careless, lab, tmp_path):
    next(case for case in CASES if case.name == name).build(tmp_path, lab)
    assert not (tmp_path / CANARY).exists()
    careless(tmp_path / "model.pt")
    assert (tmp_path / CANARY).exists()


def refuse(what="bad", where="file", fix="mend it"):
    raise PhantomscopeError(what, where=where, fix=fix)


def spring(folder):
    pickle.loads(pickle.dumps(Trap(folder / CANARY)))
    refuse()


def leave(folder):
    (folder / "out").write_text("half")
    refuse()


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda folder: refuse(), ""),
        (lambda folder: None, "exit status 0"),
        (lambda folder: 1 / 0, "a traceback"),
        (lambda folder: refuse("good"), "does not say 'bad'"),
        (lambda folder: refuse(fix=""), "how to mend it"),
        (lambda folder: refuse(where=None), "where it is"),
        (lambda folder: (print("error: first"), refuse()), "2 errors"),
        (spring, f"{CANARY} exists"),
        (leave, "changed an output"),
    ],
)
def test_the_judge_sees_every_fault(function, fault, tmp_path):
    def build(folder, lab):
        outputs = (folder / "out",)
        return Invocation(outputs=outputs, function=lambda: function(folder))

    answer = check(Case("a", "kind", build, ("bad",)), tmp_path, None)
    assert answer.ok == (not fault), answer.why_not
    assert fault in answer.why_not


def test_the_table_counts_by_kind():
    answers = [
        Answer("a", "one", True, "", ""),
        Answer("b", "two", False, "", "a traceback"),
        Answer("c", "one", False, "", "cannot mount", skipped=True),
        Answer("d", "two", True, "", ""),
    ]
    assert by_kind(answers) == [("one", 1, 1, 1), ("two", 1, 2, 0)]
    text = markdown(answers)
    assert "| one | 1 | 1 | 1 |" in text
    assert "| all | 2 | 3 | 1 |" in text
    assert "- `b` (two): a traceback" in text
    assert "`c`" not in text
