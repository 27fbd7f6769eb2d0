"""The planned work of semantic filtering."""

from collections import Counter
from typing import Any

import pytest

from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.kinds import all_works, described
from phantomscope.planning.sharding import resolved
from phantomscope.planning.sources import Images
from phantomscope.planning.work import Work

SET = Images(Counter({(512, 512): 10}), "uint8", 10)


def planned(**own: object) -> dict[str, Work]:
    options = {
        "methods": ["filter", "stardist"], "targets": ["large"], "tests": 5,
        "taught": 7, "compose": {"size": 64}, **own,
    }  # fmt: skip
    config = make_config({
        "network": {"preset": "noise2noise"},
        "process": {"kind": "one_step", "timesteps": 1},
        "train": {"steps": 3, "batch_size": 2},
        "synthesise": {"tile": 64, "overlap": 0},
        "filter": options,
    })  # fmt: skip
    assert "told apart" in described(config)
    work = all_works(resolved(config), SET)
    names = [one.name for one in work]
    for place, one in enumerate(work):
        assert set(one.after) <= set(names[:place]), one
    return {one.name: one for one in work}


def test_work_is_counted_in_pixels() -> None:
    found = planned()
    assert found["train_filter.noise2noise.filter"].units == 3 * 2 * 64**2
    assert found["compose_set.taught"].units == 7 * 64**2
    assert found["compose_set.tests"].units == 5 * 64**2
    assert found["filter_images.noise2noise.filter"].units == 5 * 64**2
    assert found["evaluate_filter.stardist"].units == 5 * 64**2


def test_real_images_are_tested_in_folds() -> None:
    found = planned(truth="points", folds=5)
    assert "compose_set.tests" not in found
    assert found["evaluate_filter.filter"].jobs == 5
    assert found["evaluate_filter.filter"].units == pytest.approx(2 * 512**2)
    # A filter sees the tiles.
    assert found["filter_images.noise2noise.filter"].units == 2 * 512**2
    assert found["train_finder.stardist"].after == ("compose_set.taught",)


def test_a_plate_is_counted_once_per_training_of_all_images() -> None:
    plain = planned(images=[2, 5], seeds=[0, 1])
    found = planned(images=[2, 5], seeds=[0, 1], plate="bbbc026_plate")
    assert set(found) - set(plain) == {
        "download_plate", "acquire_plate", "filter_images.noise2noise.filter.plate",
        "find_objects.stardist.stardist.plate", "evaluate_plate.filter",
        "evaluate_plate.stardist",
    }  # fmt: skip
    pixels = 864 * 1040 * 1388
    assert found["acquire_plate"].units == pixels
    whole = found["filter_images.noise2noise.filter.plate"]
    # Tests are 5 composed images of 64 px, in tiles as large.
    assert (whole.jobs, whole.units) == (2, pixels)
    assert "evaluate_plate.filter" in found["tabulate_filter"].after


def test_videos_have_neither_crops_nor_composed_images() -> None:
    found = planned(methods=["filter", "median"], pairs="video", truth="masks")
    assert not any(name.startswith(("cut", "compose")) for name in found)
    assert found["filter_images.median"].after == ("prepare",)
    # Patches of the default side.
    side = make_config({}).train.patch
    assert found["train_filter.noise2noise.filter"].units == 3 * 2 * side**2


@pytest.mark.parametrize(("options", "text"), [
    ({"synthesise": {"tile": 80}}, "80 px do not fit the network `noise2noise`"),
    ({"filter": {"compose": {"size": 100}}}, "filter.compose.size"),
    ({"filter": {"methods": ["median"]}}, "`median` is of the frames of videos"),
    ({"filter": {"methods": ["filtr"]}}, "filter.methods"),
    ({"filter": {"targets": []}}, "`methods` need `targets`"),
    ({"filter": {"targets": ["in focus"]}}, "becomes a folder name"),
    ({"filter": {"truth": "points", "methods": ["retinanet"]}}, "learns from boxes"),
    ({"filter": {"pairs": "video"}}, "needs `pairs: composed`"),
    ({"filter": {"preset": "bbbc027"}}, "did you mean `bbbc042`"),
    ({"filter": {"plate": "bbbc26_plate"}}, "did you mean `bbbc026_plate`"),
    ({"filter": {"iou": [1.5]}}, "`iou` is above 0 and below 1"),
    ({"filter": {"seeds": [1, 1]}}, "names something twice"),
    ({"translate": {"methods": ["unet"], "plates": {"fields": {"path": "x"}}}},
     "experiments of their own"),
])  # fmt: skip
def test_what_cannot_be_is_told(options: dict[str, Any], text: str) -> None:
    whole: dict[str, Any] = {
        "network": {"preset": "noise2noise"},
        "process": {"kind": "one_step", "timesteps": 1},
        "synthesise": {"tile": 64, "overlap": 0},
        "filter": {"methods": ["filter"], "targets": ["large"]},
    }
    for name, own in options.items():
        whole[name] = {**whole.get(name, {}), **own}
    with pytest.raises(PhantomscopeError) as caught:
        resolved(make_config(whole, "mine.yaml"))
    assert text in str(caught.value)
