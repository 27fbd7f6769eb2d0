"""What the workflow plans for semantic filtering."""

from collections import Counter

import pytest
import yaml
from tests.variations import FILTERING
from tests.workflow.test_plan import work

pytestmark = pytest.mark.workflow


def planned(snakemake, folder, options):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(options))
    return work(snakemake(folder, "--dry-run", "--configfile", path))


def changed(**options):
    return {**FILTERING, "filter": {**FILTERING["filter"], **options}}


def test_filters_rivals_folds_and_numbers_of_images(snakemake, tmp_path):
    found = planned(snakemake, tmp_path, FILTERING)
    # Two targets, folds, numbers of images and seeds.
    runs = 2 * 2 * 2 * 2
    assert found == Counter(
        write_config=1, acquire=1, prepare=1, cut_crops=1,
        # Tests of each target and fold; what teaches is of so many images.
        compose_set=2 * 2 * (1 + 2),
        train_filter=2 * runs, filter_images=2 * runs,
        train_finder=runs, find_objects=runs,
        evaluate_filter=3 * runs, tabulate_filter=1, draw_filter=1, report_filter=1,
    )  # fmt: skip


def test_videos_need_no_crops_and_the_median_no_training(snakemake, tmp_path):
    own = changed(
        methods=["filter", "median"], targets=["worm"], pairs="video", truth="masks",
        folds=1, images=[],
    )  # fmt: skip
    assert planned(snakemake, tmp_path, own) == Counter(
        write_config=1, acquire=1, prepare=1, train_filter=2, filter_images=3,
        evaluate_filter=3, tabulate_filter=1, draw_filter=1,
        report_filter=1,
    )  # fmt: skip


def test_a_plate_is_counted_by_all_methods_that_find_objects(snakemake, tmp_path):
    plain = planned(snakemake, tmp_path, FILTERING)
    found = planned(snakemake, tmp_path, changed(plate="bbbc026_plate"))
    # Two targets, folds and seeds; of the largest number of images only.
    runs = 2 * 2 * 2
    assert found - plain == Counter(
        download_plate=1, acquire_plate=1, filter_images=2 * runs, find_objects=runs,
        evaluate_plate=3 * runs,
    )  # fmt: skip
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(changed(plate="bbbc026_plat")))
    process = snakemake(tmp_path, "--dry-run", "--configfile", path)
    assert process.returncode != 0
    assert "did you mean `bbbc026_plate`" in process.stderr


def test_a_bad_option_is_told(snakemake, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(compose={"size": 100})))
    process = snakemake(tmp_path, "--dry-run", "--configfile", path)
    assert process.returncode != 0
    assert "100 px do not fit the network `noise2noise`" in process.stderr
    assert "filter.compose.size" in process.stderr
    assert "Traceback" not in process.stderr
