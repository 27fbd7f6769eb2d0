"""Bad input gets one clear error: which file or key, how to mend it, nothing left."""

import pytest
from benchmarks.bad_inputs import CASES, CONTROLS, check

pytestmark = pytest.mark.end_to_end


def test_there_are_enough_different_cases():
    names = [case.name for case in [*CASES, *CONTROLS]]
    assert len(CASES) >= 55
    assert len(set(names)) == len(names)
    assert all(case.expect for case in CASES)


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
