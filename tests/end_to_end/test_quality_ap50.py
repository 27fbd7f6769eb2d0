"""A segmenter trained on images of few steps and of the full chain, at smoke scale."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks import quality_ap50
from benchmarks.laboratory import Laboratory
from benchmarks.quality_ap50 import DEFAULT, REFERENCE, Sets, Way, run_all

from phantomscope.images.imageset import ImageSet

pytestmark = pytest.mark.end_to_end
SAME, STUDENT = Way("ddim-4", {"steps": 4}), Way("student", student=True)
TOOL = "otsu_watershed"  # trains in no time


@pytest.fixture(scope="module")
def near(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """The laboratory with a short full chain."""
    found = Laboratory(lab.folder, lab.config)
    found.start = tmp_path_factory.mktemp("near") / "start.json"
    found.start.write_text('{"value": 5}')
    return found


def test_sets_are_made_once_from_the_same_labels(
    near: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def measured() -> pd.DataFrame:
        found = quality_ap50.rows(near, "small model", tmp_path / "tables", count=4,
                                  seeds=[3], further=[SAME, STUDENT], tool=TOOL,
                                  folder=tmp_path / "sets")  # fmt: skip
        assert [row.id for row in found] == ["engine.quality_loss_ap50"]
        return pd.read_csv(tmp_path / "tables/quality_ap50.csv")

    table = measured()
    # No student is there, and the other is the default.
    assert list(table["way"]) == [REFERENCE, DEFAULT]
    assert list(table["steps"]) == [5, 4]
    assert set(table["seeds"]) == {1}
    assert set(table["images"]) == {4}
    per_image = pd.read_csv(tmp_path / "tables/quality_ap50_per_image.csv")
    assert len(per_image) == 2
    sets = Sets(near, 4, tmp_path / "sets")
    full, own = (ImageSet.open(sets.gathered(Way(n))) for n in (REFERENCE, DEFAULT))
    assert list(full.table["mask_sha256"]) == list(own.table["mask_sha256"])
    assert list(full.table["sha256"]) != list(own.table["sha256"])
    commands: list[list[str]] = []
    monkeypatch.setattr(
        quality_ap50, "run_all", lambda label, found: commands.extend(found)
    )
    assert measured().equals(table)
    assert commands == []


def test_another_model_or_start_has_sets_of_its_own(near: Laboratory, tmp_path: Path):
    one = Sets(near, 4, tmp_path).folder
    assert Sets(near, 6, tmp_path).folder != one
    later = Laboratory(near.folder, near.config)
    later.start = tmp_path / "start.json"
    later.start.write_text('{"value": 9}')
    assert Sets(later, 4, tmp_path).folder != one


def test_a_failed_command_is_said():
    with pytest.raises(RuntimeError, match="status 1"):
        run_all("nothing", [["true"], ["false"], ["true"]])
