"""Whatever breaks, the same command again gives what an undisturbed run gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.bad_inputs.model import NotPermittedError
from benchmarks.faults import FAULTS, KINDS, inject, rows, table
from benchmarks.faults.commands import BrokenError, MissedError, Running, claim
from benchmarks.faults.model import ATTEMPTS, Fault, Injection, Outcome
from benchmarks.faults.world import World, difference
from benchmarks.laboratory import Laboratory, stage

from phantomscope.images.files import read_array, write_ome_tiff
from phantomscope.images.writer import ImageSetWriter

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def world(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(lab, tmp_path_factory.mktemp("faults") / "world") as made:
        yield made


@pytest.fixture(scope="module")
def beside(
    world: World, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[Outcome]]]:  # fmt: skip
    """Faults of workflows are injected beside the others: one core is enough."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params.get("fault") for call in calls if call is not None]
    folder = tmp_path_factory.mktemp("workflows")
    with ThreadPoolExecutor(1) as pool:
        yield {
            fault.name: pool.submit(inject, fault, world, folder)
            for fault in chosen
            if isinstance(fault, Fault) and fault.kind == "workflows"
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost(
    fault: Fault, world: World, beside: dict[str, Future[Outcome]], tmp_path: Path
) -> None:
    if fault.name in beside:
        outcome = beside[fault.name].result()
    else:
        outcome = inject(fault, world, tmp_path)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.ok, outcome.note
    assert (outcome.times, outcome.recovered, outcome.equal) == (1, 1, 1)


# The judges


def test_there_are_enough_different_faults() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 50
    assert set(KINDS) == {"processes", "storage", "inputs", "network", "workflows"}


def judged(tmp_path: Path, *ends: Any, times: int = 1) -> Outcome:
    """Inject a fault whose injections end so, one after the other."""
    coming = iter(ends)

    def end(world: Any, folder: Path, n: int) -> Injection:
        found = next(coming)
        if isinstance(found, Exception):
            raise found
        return Injection(found)

    return inject(Fault("x", "processes", end), None, tmp_path, times)  # type: ignore


def test_what_broke_or_differs_is_no_success(tmp_path: Path) -> None:
    good = judged(tmp_path / "a", "")
    assert good.ok
    differs = judged(tmp_path / "b", "", "set/manifest.csv", times=2)
    assert not differs.ok
    assert (differs.times, differs.recovered, differs.equal) == (2, 2, 1)
    for error in (BrokenError("exit status 1"), KeyError("bug")):
        broken = judged(tmp_path / str(error), error, "", times=2)
        assert not broken.ok
        assert (broken.times, broken.recovered, broken.equal) == (2, 1, 1)
    assert "exit status 1" in judged(tmp_path / "c", BrokenError("exit status 1")).note
    first, second = rows([good, differs], "command")
    assert (first.value, second.value) == (1.0, 2 / 3)
    assert first.met
    assert not second.met
    text = table([good, differs])
    assert "| x | processes | 2 | 2 | 1 |" in text
    assert "DIFFERS: set/manifest.csv" in text


def test_what_did_not_hit_is_injected_again(tmp_path: Path) -> None:
    again = judged(tmp_path / "a", MissedError(), MissedError(), "")
    assert again.ok
    assert again.times == 1
    never = judged(tmp_path / "b", *[MissedError()] * ATTEMPTS)
    assert not never.ok
    assert never.times == 0
    with pytest.raises(ValueError, match="no fault"):
        rows([never], "command")
    skipped = judged(tmp_path / "c", NotPermittedError("needs root"))
    assert skipped.ok
    assert "skipped: needs root" in table([skipped])


def test_any_difference_is_seen(tmp_path: Path) -> None:
    with ImageSetWriter(tmp_path / "a/set", {}) as writer:
        for n in range(2):
            writer.add(f"i{n}", np.full((16, 16), n, np.uint16))
    path = tmp_path / "b/set/images/i0.ome.tif"

    def changed() -> str:
        """Compare, and mend what was changed."""
        found = difference(tmp_path / "a", tmp_path / "b", "set")
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        return found

    assert "set/manifest.csv" in changed()  # nothing is there
    assert changed() == ""
    write_ome_tiff(path, read_array(path))  # written anew, the same pixels
    assert changed() == ""
    write_ome_tiff(path, read_array(path) + np.uint16(1))
    assert changed() == "set/images/i0.ome.tif"
    path.unlink()
    assert changed() == "set/images/i0.ome.tif"
    path.with_name(".i0.ome.tif.1.partial").touch()
    assert changed() == "set/images/.i0.ome.tif.1.partial"
    (tmp_path / "b/set/info.json").write_text("{}")
    assert changed() == "set/info.json"


def test_a_command_ends_as_it_does_in_a_shell(tmp_path: Path) -> None:
    command = stage("prepare", "images", tmp_path / "nowhere", "prepared",
                    tmp_path / "a", "normalisation", tmp_path / "b")  # fmt: skip
    with Running(command, tmp_path / "log") as process:
        assert process.wait() == 1
    assert "error:" in process.text
    with pytest.raises(BrokenError, match="so it is"):
        claim(False, "so it is")
