"""Objects of the wells of a plate are counted."""

import numpy as np
import pandas as pd
from tests.filtering import SIDE, filter_config, squares

from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.filter_scores import evaluate_plate


def test_a_plate_is_counted_by_well(tmp_path):
    config = filter_config("points", plate="bbbc026_plate")
    with ImageSetWriter(tmp_path / "prepared", {}) as writer:
        for name, split in (("C05_s1", "train"), ("B01_s9", "test")):
            blank = np.zeros((SIDE, SIDE), np.uint8)
            writer.add(name, blank, split=split, group=name)
    with ImageSetWriter(tmp_path / "found", {}) as writer:
        for number, (well, places) in enumerate(
            [("B01", [(1, 1)]), ("B01", [(1, 1), (20, 20)]), ("B23", [(9, 9)])]
        ):
            labels = squares(*places)
            labels[46, 46] = 9  # too small
            writer.add(
                f"{well}_s{number}", np.zeros((SIDE, SIDE), np.float32), labels,
                well=well, site=number, control="negative" if well == "B01" else "",
            )  # fmt: skip

    def counted(name, config=config, prepared="prepared"):
        path = tmp_path / name / "plate.csv"
        evaluate_plate(
            config, found=tmp_path / "found", prepared=tmp_path / prepared,
            scores=path, fold=0,
        )  # fmt: skip
        return pd.read_csv(path).set_index("well")

    table = counted("p")
    assert table["objects"].to_dict() == {"B01": 3, "B23": 1}
    assert table["sites"].to_dict() == {"B01": 2, "B23": 1}
    assert table.loc["B01", "control"] == "negative"
    large = config.filter.objects.model_copy(update={"max_area": 60.0})
    small = config.filter.model_copy(update={"objects": large})
    config_of_small = config.model_copy(update={"filter": small})
    assert counted("q", config_of_small)["objects"].sum() == 0
    # Sites that trained are not counted; the other one of the well stands for both.
    with ImageSetWriter(tmp_path / "other", {}) as writer:
        for name, split in (("B01_s1", "train"), ("B23_s2", "train"), ("x", "test")):
            blank = np.zeros((SIDE, SIDE), np.uint8)
            writer.add(name, blank, split=split, group=name)
    table = counted("r", prepared="other")
    assert table["objects"].to_dict() == {"B01": 2}
    assert table["sites"].to_dict() == {"B01": 1}
