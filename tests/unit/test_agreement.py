"""Agreement of features, retrieval of replicates, and tests of methods."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.agreement import feature_correlations, matched_pairs
from phantomscope.measure.comparisons import compare_methods, holm
from phantomscope.measure.retrieval import (
    replicate_map,
    retrieval_of_real,
    standardised,
)

FEATURES = ("Intensity_MeanIntensity_DNA", "Intensity_StdIntensity_DNA",
            "Texture_Contrast_DNA_3_00_256")  # fmt: skip


def objects(groups=12, sites=2, each=6, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for group, site, label in itertools.product(
        range(groups), range(sites), range(1, each + 1)
    ):
        values = random.normal(group, 3, len(FEATURES))
        rows.append({
            "group": f"well {group}", "site": f"{group}-{site}", "label": label,
            **dict(zip(FEATURES, values, strict=True)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def noisy(table, size, seed=1):
    random = np.random.default_rng(seed)
    found = table.copy()
    found[list(FEATURES)] += random.normal(0, size, (len(table), len(FEATURES)))
    return found


def of(result, category):
    (row,) = result[result["category"] == category].to_dict("records")
    return row


@pytest.mark.parametrize("unit", ["object", "site", "group"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_same_and_the_negated(unit, sign):
    real = objects()
    other = real.copy()
    other[list(FEATURES)] *= 5 * sign
    row = of(feature_correlations(real, other, unit, resamples=50), "Intensity")
    assert [row["value"], row["low"], row["high"]] == pytest.approx([sign] * 3)
    n = {"object": 144, "site": 24, "group": 12}[unit]
    assert (row["n"], row["n_groups"], row["n_features"]) == (n, 12, 2)
    assert (row["unit"], row["segmentation"]) == (unit, "shared")


def test_values_are_means_of_pearsons_correlation():
    real = objects()
    synthetic = noisy(real, 4)
    row = of(feature_correlations(real, synthetic, "object"), "Intensity")
    each = [np.corrcoef(real[f], synthetic[f])[0, 1] for f in FEATURES[:2]]
    assert row["value"] == pytest.approx(np.mean(each))
    by_well = [t.groupby("group")[list(FEATURES)].median() for t in (real, synthetic)]
    row = of(feature_correlations(real, synthetic, "group"), "Texture")
    assert row["value"] == pytest.approx(
        np.corrcoef(by_well[0][FEATURES[2]], by_well[1][FEATURES[2]])[0, 1]
    )


def test_intervals_have_the_width_of_normal_theory():
    random = np.random.default_rng(3)
    real = pd.DataFrame({
        "group": [f"{i}" for i in range(300)], "site": range(300), "label": 1,
        FEATURES[2]: random.normal(size=300),
    })  # fmt: skip
    synthetic = real.copy()
    synthetic[FEATURES[2]] += random.normal(size=300)
    row = of(feature_correlations(real, synthetic, "object"), "Texture")
    half = 1.96 * (1 - row["value"] ** 2) / math.sqrt(300)
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.2)
    assert row["low"] < row["value"] < row["high"]


def test_objects_of_a_group_are_drawn_together():
    real = objects(groups=30, sites=1, each=1)
    synthetic = noisy(real, 4)
    once = of(feature_correlations(real, synthetic, "object"), "Texture")
    many = [
        pd.concat([t.assign(label=i) for i in range(10)]) for t in (real, synthetic)
    ]
    # Ten copies of each object in its group are no more evidence than one.
    often = of(feature_correlations(*many, "object"), "Texture")
    assert (often["n"], often["n_groups"]) == (300, 30)
    for name in ("value", "low", "high"):
        assert often[name] == pytest.approx(once[name])
    assert often["high"] - often["low"] > 0.01


@pytest.mark.parametrize("unit", ["object", "site"])
def test_the_order_of_rows_does_not_matter(unit):
    real = objects()
    synthetic = noisy(real, 4)
    first = feature_correlations(real, synthetic, unit, resamples=30)
    second = feature_correlations(
        real.sample(frac=1, random_state=1), synthetic.sample(frac=1, random_state=2),
        unit, resamples=30,
    )  # fmt: skip
    pd.testing.assert_frame_equal(first, second)


def test_constant_and_undefined_features_are_left_out():
    real = objects()
    synthetic = noisy(real, 1)
    synthetic[FEATURES[0]] = 0.1
    real.loc[real["group"] != "well 1", FEATURES[2]] = np.nan
    found = feature_correlations(real, synthetic, "group", resamples=20)
    row = of(found, "Intensity")
    assert (row["n_features"], row["n_left_out"]) == (1, 1)
    assert row["value"] > 0.9
    row = of(found, "Texture")
    assert (row["n_features"], row["n_left_out"]) == (0, 1)
    assert math.isnan(row["value"])


def test_sites_without_objects_count_none():
    real = objects(groups=4)
    found = feature_correlations(
        real, real[real["site"] != "2-1"], "site", segmentation="own", resamples=20
    )
    row = of(found, "Count")
    assert row["n"] == 8
    # The real count is the same everywhere, so that there is no correlation.
    assert row["n_left_out"] == 1
    extra = pd.concat([real, real[real["site"] == "0-0"].assign(label=99)])
    found = feature_correlations(extra, real, "site", segmentation="own", resamples=20)
    assert of(found, "Intensity")["value"] == pytest.approx(1)


def test_one_group_has_no_interval():
    real = objects(groups=1)
    row = of(feature_correlations(real, noisy(real, 1), "object"), "Intensity")
    assert math.isnan(row["low"])
    assert not math.isnan(row["value"])


def test_objects_found_twice_are_matched_by_overlap():
    first, second = np.zeros((2, 30, 30), int)
    first[2:10, 2:10], first[15:25, 15:25], first[0:2, 20:28] = 3, 5, 8
    second[3:10, 2:10], second[15:25, 16:25], second[28:, :4] = 70, 20, 9
    pairs = matched_pairs(first, second)
    assert pairs.to_dict("list") == {"real": [3, 5], "synthetic": [70, 20]}


def test_pairs_join_objects_of_their_own_segmentation():
    real = objects()
    synthetic = real.assign(label=real["label"] + 100)
    pairs = real[["site"]].assign(real=real["label"], synthetic=real["label"] + 100)
    found = feature_correlations(
        real, synthetic, "object", segmentation="own", pairs=pairs[5:], resamples=20
    )
    row = of(found, "Intensity")
    assert row["value"] == pytest.approx(1)
    assert (row["n"], row["segmentation"]) == (139, "own")


def test_frames_that_do_not_go_together_are_refused():
    real = objects()
    for other, options, message in (
        (real.drop(columns="group"), {}, "lack"),
        (real.drop(columns=FEATURES[0]), {}, "different features"),
        (real[1:], {"unit": "object"}, "differ between"),
        (real, {"unit": "object", "segmentation": "own"}, "no pairs"),
        (real.assign(group="other"), {"unit": "site"}, "two groups"),
        (pd.concat([real, real]), {"unit": "object"}, "of one label"),
    ):
        with pytest.raises(PhantomscopeError, match=message):
            feature_correlations(real, other, **options)


LABELS = [f"compound {i // 4}" for i in range(40)]


def test_replicates_of_one_direction_are_found_first():
    centre = np.repeat(np.eye(10), 4, axis=0)
    profiles = centre + np.random.default_rng(0).normal(0, 0.01, centre.shape)
    found = replicate_map(profiles, LABELS, resamples=50)
    assert (found.interval.value, found.interval.low) == (1, 1)
    assert (found.interval.n, found.interval.n_groups) == (40, 10)


def test_random_profiles_are_found_by_chance():
    values = [
        replicate_map(
            np.random.default_rng(seed).normal(size=(40, 50)), LABELS, resamples=2
        )
        for seed in range(30)
    ]
    mean = np.mean([v.interval.value for v in values])
    assert mean == pytest.approx(values[0].chance, abs=0.01)


def test_chance_is_the_mean_over_all_orders():
    found = replicate_map(np.eye(6) + 1, ["a", "a", "a", "b", "c", "d"], resamples=2)
    orders = list(itertools.permutations([1, 1, 0, 0, 0]))
    precision = [
        np.mean([sum(o[: k + 1]) / (k + 1) for k in range(5) if o[k]]) for o in orders
    ]
    assert found.chance == pytest.approx(np.mean(precision))
    assert (found.n_left_out, found.interval.n) == (3, 3)
    # All are equally similar: the worst order, 1/4 and 2/5.
    assert found.interval.value == pytest.approx((1 / 4 + 2 / 5) / 2)


def test_an_average_precision_by_hand():
    # Seen from the first: the replicate at 20 degrees comes after another at 10.
    angles = np.radians([0, 20, 10, 90])
    profiles = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = replicate_map(profiles, ["a", "a", "b", "c"], resamples=2)
    assert found.interval.value == pytest.approx(1 / 2)


def test_ranks_of_the_real_well():
    real = np.random.default_rng(0).normal(size=(30, 8))
    assert retrieval_of_real(3 * real, real).tolist() == [1] * 30
    assert retrieval_of_real(-real, real).tolist() == [30] * 30
    assert retrieval_of_real(np.ones((5, 2)), np.ones((5, 2))).tolist() == [5] * 5


def test_standardised_by_untreated_wells():
    table = pd.DataFrame({
        "a": [1.0, 3.0, 9.0], "b": [0.1, 0.1, 2.0], "c": [1.0, np.nan, 2.0],
    })  # fmt: skip
    found = standardised(table, [True, True, False])
    assert found.to_dict("list") == {"a": [-1, 1, 7]}
    with pytest.raises(PhantomscopeError, match="no feature"):
        standardised(table[["b", "c"]], [True, True, False])


def test_profiles_that_cannot_be_retrieved_are_refused():
    for profiles, labels, message in (
        (np.eye(2), ["a", "b"], "no label"),
        (np.zeros((2, 2)), ["a", "a"], "all zero"),
        (np.eye(2), ["a"], "1 labels"),
    ):
        with pytest.raises(PhantomscopeError, match=message):
            replicate_map(profiles, labels)


def test_p_values_by_hand():
    first, second = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]
    found = compare_methods(first, second, ["a", "b", "c"])
    # Differences 1, 2, 3: t = 2 sqrt(3) with 2 degrees of freedom.
    t = 2 * math.sqrt(3)
    assert found["paired_t"] == pytest.approx(1 - t / math.sqrt(2 + t * t))
    # Variances 1 and 4: t = 2 / sqrt(5/3) with 4 degrees of freedom.
    angle = math.atan(2 / math.sqrt(5 / 3) / 2)
    student = 1 - math.sin(angle) * (1 + math.cos(angle) ** 2 / 2)
    assert found["student_t"] == pytest.approx(student)
    assert found["welch_t"] > student
    # Of 2^3 signs two are as extreme.
    assert found["wilcoxon"] == pytest.approx(0.25)
    assert (found["difference"], found["n_groups"], found["n"]) == (-2, 3, 3)


def test_images_of_a_group_are_no_more_evidence():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 8))
    groups = [f"{i}" for i in range(8)]
    once = compare_methods(first, second, groups)
    often = compare_methods(np.tile(first, 50), np.tile(second, 50), groups * 50)
    for name in ("paired_t", "student_t", "welch_t", "wilcoxon", "difference"):
        assert often[name] == pytest.approx(once[name])
    assert often["student_t_images"] < 0.01 * once["student_t"]


def test_what_cannot_be_tested():
    values = np.arange(6.0)
    few = compare_methods(values, values + 1, ["a", "b"] * 3)
    assert all(math.isnan(few[k]) for k in ("paired_t", "wilcoxon", "student_t_images"))
    assert few["difference"] == -1
    same = compare_methods(values, values, list("abcdef"))
    assert math.isnan(same["paired_t"])
    assert math.isnan(same["wilcoxon"])
    assert same["student_t"] == pytest.approx(1)
    gaps = compare_methods(np.append(values, np.nan), np.arange(7.0), list("abcdefg"))
    assert (gaps["n"], gaps["n_groups"]) == (6, 6)
    with pytest.raises(PhantomscopeError, match="do not go together"):
        compare_methods(values, values[1:], list("abcdef"))


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": float("nan")})
    assert list(found) == ["a", "b", "c", "d"]
    assert [found[k] for k in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(found["d"])
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1, "b": 1}
    with pytest.raises(PhantomscopeError, match="p-values"):
        holm({"a": 1.2})
