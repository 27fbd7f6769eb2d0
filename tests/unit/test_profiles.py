"""Features of objects on real and predicted stains: measured and compared."""

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.load import make_config
from phantomscope.engine.pairs import to_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.features_objects import CATEGORIES
from phantomscope.measure.moments_by_group import Moments, category_correlations
from phantomscope.measure.profiles import category_rows, retrieval_rows
from phantomscope.stages.profiles import compare_profiles, measure_profiles

SIDE = 64
WELLS = {"A01": "x", "A02": "x", "B01": "y", "B02": "y"}
DRAWN = {"resamples": 40, "confidence": 0.95, "seed": 0}
OF_STAINS = ("Correlation", "Intensity", "RadialDistribution", "Texture")


def config_of(**translate):
    plates = {
        "kind": "fields", "inputs": ["Brightfield"], "stains": ["DNA", "ER_1"],
        "fields": {"path": "nowhere", "channels": ["Brightfield", "DNA", "ER_1"]},
    }  # fmt: skip
    return make_config({
        "experiment": "here", "evaluate": {"resamples": 40},
        "translate": {"methods": ["unet"], "plates": plates, **translate},
    })  # fmt: skip


def scene(name, places=((6, 6), (6, 36), (36, 6), (36, 36), (22, 22)), side=SIDE):
    """Squares of which each has stains of its own: (stains, labels)."""
    random = generator("scene", name)
    labels, stains = np.zeros((side, side), np.uint16), np.full((2, side, side), -0.9)
    count = len(places) - int(random.integers(3))
    for number, (y, x) in enumerate(places[:count], 1):
        size = int(random.integers(8, 13))
        where = (slice(y, y + size), slice(x, x + size))
        labels[where] = number
        bright, steep = random.uniform(-0.5, 0.5, (2, 2, 1, 1))
        slope = np.linspace(-0.3, 0.3, size)[:, None] * steep
        stains[:, *where] = bright + slope + random.normal(0, 0.1, (2, size, size))
    return stains.clip(-1, 1), labels


NAMES = [f"{well}-{site}" for well in WELLS for site in range(2)]


def write(folder, images, about=None):
    """Write (channels, labels) by name."""
    with ImageSetWriter(folder, {}) as writer:
        for name, (values, labels) in images.items():
            well = name.partition("-")[0]
            known = {"group": f"p-{well}", "well": well, "plate": "p",
                     "compound": WELLS.get(well, ""), "cell_line": "U2OS"}  # fmt: skip
            writer.add(
                name, to_stored(values), labels, cells=labels, channels=len(values),
                split="test", **(known if about is None else about),
            )  # fmt: skip
    return folder


def real_images(names=NAMES, **how):
    found = {name: scene(name, **how) for name in names}
    return {n: (np.concatenate([s[:1], s, s]), m) for n, (s, m) in found.items()}


def predicted(change, names=NAMES, **how):
    found = {}
    for name in names:
        stains, labels = change(name, *scene(name, **how))
        found[name] = (np.concatenate([stains, stains]), labels)
    return found


def same(name, stains, labels):
    return stains, labels


def measured(config, folder, pairs, **how):
    shards = range(config.translate.shards)
    places = [folder / f"{n}" for n in shards]
    for n in shards:
        measure_profiles(config, pairs=pairs, profiles=places[n], shard=n, **how)
    return places


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Pairs and the profiles of their real stains, in two shards."""
    folder = tmp_path_factory.mktemp("profiles")
    write(folder / "pairs", real_images())
    config = config_of(shards=2)
    real = measured(config, folder / "real", folder / "pairs", objects="true")
    return config, folder / "pairs", real


def compared(study, folder, change, way="found", config=None):
    own, pairs, real = study
    config = config or own
    images = write(folder / "translated", predicted(change))
    found = measured(
        config, folder / way, pairs, translated=[images], objects=way
    )  # fmt: skip
    scores = folder / f"scores-{way}"
    compare_profiles(
        config, real=real, profiles=found, scores=scores, method="unet", objects=way
    )
    return scores


def table(scores):
    read = pd.read_csv(scores / "correlations.csv", keep_default_na=False, na_values="")
    return read.set_index(["level", "category"])


@pytest.fixture(scope="module")
def of_same(study, tmp_path_factory):
    return compared(study, tmp_path_factory.mktemp("same"), same)


def test_the_same_stains_correlate_fully(of_same):
    found = table(of_same)
    assert len(found) == 8 + 9 + 9
    assert set(found.index.levels[1]) == {*CATEGORIES, "AreaShape"}
    assert found["value"].to_numpy() == pytest.approx(1)
    assert found["low"].dropna().to_numpy() == pytest.approx(1)
    assert (found["n_groups"] == 4).all()
    assert found.loc["site"]["n"].eq(8).all()
    assert found.loc["well"]["n"].eq(4).all()
    assert found["cell_line"].eq("U2OS").all()
    assert found["reason"].isna().all()


def test_profiles_are_medians_of_one_row_per_object(study):
    _, _, real = study
    objects = pd.concat([pd.read_csv(p / "nuclei.csv.gz") for p in real])
    sites = pd.concat([pd.read_csv(p / "sites.csv") for p in real]).set_index("id")
    wells = pd.concat([pd.read_csv(p / "wells.csv") for p in real]).set_index("group")
    assert set(sites.index) == set(NAMES)
    name = "Intensity_MeanIntensity_ER-1"
    for by, units in (("id", sites), ("group", wells)):
        each = objects.groupby(by)
        assert units["Nuclei_Count_Objects"].to_dict() == each.size().to_dict()
        medians = each[name].median()[units.index]
        assert units[f"Nuclei_{name}"].to_numpy() == pytest.approx(medians.to_numpy())
    assert wells["compound"].to_dict() == {f"p-{w}": c for w, c in WELLS.items()}
    # A well is in one shard.
    groups = [set(pd.read_csv(p / "wells.csv")["group"]) for p in real]
    assert not groups[0] & groups[1]


def test_shards_change_nothing(study, of_same, tmp_path):
    _, pairs, _ = study
    config = config_of()
    real = measured(config, tmp_path / "real", pairs, objects="true")
    one = compared((config, pairs, real), tmp_path, same)
    for name in ("correlations.csv", "retrieval.csv"):
        first, second = (pd.read_csv(p / name) for p in (one, of_same))
        pd.testing.assert_frame_equal(first, second)
    again = measured(config, tmp_path / "again", pairs, objects="true")
    for name in ("nuclei.csv.gz", "sites.csv"):
        assert (again[0] / name).read_bytes() == (real[0] / name).read_bytes()


def test_stains_of_other_images_do_not_correlate(study, tmp_path):
    """Each object has the stains of another one, on true objects."""

    def other(name, stains, labels):
        random = generator("other", name)
        found = np.full_like(stains, -0.9)
        for number in range(1, labels.max() + 1):
            inside, bright = labels == number, random.uniform(-0.5, 0.5, (2, 1))
            steep = random.uniform(-0.1, 0.1)
            noise = random.normal(0, 0.1 + steep, (2, inside.sum()))
            found[:, inside] = bright + noise
        return found.clip(-1, 1), labels

    found = table(compared(study, tmp_path, other, way="true"))
    assert found["objects"].eq("true objects").all()
    for name in ("Intensity", "Correlation", "Texture"):
        row = found.loc[("object", name)]
        assert abs(row["value"]) < 0.3
        assert row["low"] < row["value"] < row["high"]
    # These do not look at stains.
    for name in ("Count", "Neighbors", "AreaShape"):
        assert found.loc[("site", name)]["value"] == pytest.approx(1)


def test_found_objects_are_paired_by_overlap(study, tmp_path):
    """Other numbers, one object missed, one invented."""

    def renumbered(name, stains, labels):
        found = np.where(labels > 0, 20 - labels, 0).astype(np.uint16)
        found[labels == 1] = 0
        found[56:60, 56:60] = 3
        return stains, found

    found = table(compared(study, tmp_path, renumbered))
    _, _, real = study
    total = sum(len(pd.read_csv(p / "nuclei.csv.gz")) for p in real)
    row = found.loc[("object", "Intensity")]
    assert row["n"] == total - len(NAMES)
    assert row["value"] == pytest.approx(1)
    # One less and one more.
    assert found.loc[("site", "Count")]["value"] == pytest.approx(1)
    assert found.loc[("site", "Intensity")]["value"] < 0.999


def test_no_objects_at_all(study, tmp_path):
    def none(name, stains, labels):
        return stains, np.zeros_like(labels)

    scores = compared(study, tmp_path, none)
    found = table(scores)
    assert found["value"].isna().all()
    assert found["reason"].notna().all()
    assert found.loc[("object", "Texture")]["reason"].startswith("no object has")
    assert "constant" in found.loc[("site", "Count")]["reason"]
    retrieval = pd.read_csv(scores / "retrieval.csv").set_index("source")
    assert retrieval.loc["unet", "reason"] == "no plate has 3 wells with objects"
    assert 0 <= retrieval.loc["real", "value"] <= 1


def test_a_constant_stain_is_left_out(study, tmp_path):
    def flat(name, stains, labels):
        return np.stack([stains[0], np.full_like(stains[0], 0.2)]), labels

    found = table(compared(study, tmp_path, flat))
    row, full = found.loc[("object", "Intensity")], 2 * 30
    # Of the second stain only sums follow the size of an object.
    assert full / 2 <= row["n_features"] < full
    assert row["n_features"] + row["n_left_out"] == full


def test_blocks_of_one_field(tmp_path):
    """Four blocks, objects by their centres, places within the block."""
    corners = [(y, x) for y in (10, 74) for x in (10, 40, 74, 104)]
    how = {"names": ["field"], "places": corners, "side": 128}
    pairs = write(tmp_path / "pairs", real_images(**how), {"group": "field"})
    images = write(tmp_path / "translated", predicted(same, **how), {"group": "field"})
    config = config_of(blocks=64)
    real = measured(config, tmp_path / "real", pairs, objects="true")
    found = measured(config, tmp_path / "found", pairs, translated=[images])
    compare_profiles(
        config, real=real, profiles=found, scores=tmp_path / "s", method="unet"
    )
    objects = pd.read_csv(real[0] / "cells.csv.gz")
    assert objects["Location_Center_Y"].between(10, 30).all()
    assert set(objects["id"]) <= {f"field-block{y}-{x}" for y in (0, 1) for x in (0, 1)}
    sites = pd.read_csv(real[0] / "sites.csv")
    assert len(sites) == 4
    assert sites["Cells_Count_Objects"].sum() == len(objects)
    rows = table(tmp_path / "s")
    assert set(rows.index.levels[0]) == {"object", "site"}
    assert rows["value"].dropna().to_numpy() == pytest.approx(1)
    assert rows.loc["site"]["n_groups"].eq(4).all()
    # Nothing is known of wells, compounds and cell lines.
    assert rows["cell_line"].isna().all()
    again = pd.read_csv(tmp_path / "s/retrieval.csv")
    assert set(again["reason"]) == {"no well has a compound"}


def test_what_does_not_go_together_is_refused(study, tmp_path):
    config, pairs, real = study
    with pytest.raises(PhantomscopeError, match="objects cannot be 'all'"):
        measure_profiles(config, pairs=pairs, profiles=tmp_path / "x", objects="all")
    for profiles, message in ((real[:1], "do not go together"), (real[::-1], "same s")):
        with pytest.raises(PhantomscopeError, match=message):
            compare_profiles(
                config, real=real, profiles=profiles, scores=tmp_path / "s",
                method="unet",
            )  # fmt: skip
    part = write(tmp_path / "part", predicted(same, NAMES[:2]))
    with pytest.raises(PhantomscopeError, match="was not translated"):
        measure_profiles(
            config, pairs=pairs, profiles=tmp_path / "x", translated=[part]
        )
    assert not list(tmp_path.glob("[xs]/*"))


def features(n, seed, scale=1.0, offset=0.0):
    random = np.random.default_rng(seed)
    names = ["Intensity_A_X", "Intensity_B_X", "Texture_A_X"]
    return pd.DataFrame(offset + scale * random.normal(size=(n, 3)), columns=names)


def test_moments_of_parts_are_those_of_the_whole():
    groups = np.repeat([f"{n:02d}" for n in range(20)], 10)
    first = features(200, 0, 1e-3, 1e4)
    second = 0.5 * first + features(200, 1, 1e-3)
    whole = Moments.of(first, second, groups)
    parts = [Moments.of(first[i::1][at], second[at], groups[at])
             for i, at in ((0, groups < "07"), (0, groups >= "07"))]  # fmt: skip
    joined = Moments.joined(parts[::-1])
    np.testing.assert_array_equal(joined.values, whole.values)
    row = category_correlations([joined], **DRAWN).set_index("category").loc["Texture"]
    exact = np.corrcoef(first["Texture_A_X"], second["Texture_A_X"])[0, 1]
    assert row["value"] == pytest.approx(exact, rel=1e-9)
    with pytest.raises(PhantomscopeError, match="same group"):
        Moments.joined([parts[0], parts[0]])


def test_unrelated_units_correlate_by_chance_alone():
    groups = np.arange(3000) % 100
    one = Moments.of(features(3000, 0), features(3000, 1), groups)
    found = category_correlations([one], **DRAWN).set_index("category")
    assert found["value"].abs().max() < 0.05
    assert (found["low"] < 0.02).all()
    assert (found["high"] > -0.02).all()


def test_trainings_are_averaged():
    first, groups = features(50, 0), np.arange(50) % 10
    repeats = [Moments.of(first, sign * first, groups) for sign in (1, -1)]
    row = category_correlations(repeats, **DRAWN).iloc[0]
    assert [row["value"], row["low"], row["high"]] == pytest.approx([0] * 3)
    with pytest.raises(PhantomscopeError, match="other groups"):
        category_correlations([repeats[0], repeats[0].of_groups({"1"})])


def test_cell_lines_are_told_apart():
    first, groups = features(60, 0), np.repeat([f"{n}" for n in range(6)], 10)
    signs = np.where(groups < "3", 1, -1)[:, None]
    moments = Moments.of(first, first * signs, groups)
    lines = {"A549": {"0", "1", "2"}, "U2OS": {"3", "4", "5"}}
    found = category_rows([moments], lines, "well", **DRAWN)
    found = found.set_index(["cell_line", "category"])
    assert found.loc[("A549", "Texture")]["value"] == pytest.approx(1)
    assert found.loc[("U2OS", "Texture")]["value"] == pytest.approx(-1)
    assert found.loc[("U2OS", "Granularity")]["reason"].startswith("no well has")


def wells_of(compounds, values, **about):
    rows = {"group": [f"{n}" for n in range(len(compounds))], "compound": compounds}
    known = {"plate": "p", "cell_line": "U2OS", **about}
    names = [f"Nuclei_Intensity_{k}_X" for k in range(values.shape[1])]
    return pd.concat([
        pd.DataFrame({**rows, **known, "Nuclei_Count_Objects": 5.0}),
        pd.DataFrame(values, columns=names),
    ], axis=1)  # fmt: skip


def test_replicates_are_retrieved_within_a_cell_line():
    centre = np.repeat(np.eye(6), 2, axis=0)
    values = centre + np.random.default_rng(0).normal(0, 0.01, centre.shape)
    compounds = [f"c{n // 2}" for n in range(12)]
    wells = wells_of(compounds, values)
    (row,) = retrieval_rows([wells], "DMSO", **DRAWN).to_dict("records")
    assert (row["value"], row["n"], row["n_groups"]) == (1, 12, 6)
    assert row["chance"] < 0.4
    # Untreated wells are not asked for, and are in nobody's way.
    untreated = wells_of(["DMSO"] * 4 + [""] * 2, np.zeros((6, 6)))
    both = pd.concat([wells, untreated.assign(group=[f"u{n}" for n in range(6)])])
    (row,) = retrieval_rows([both], "DMSO", **DRAWN).to_dict("records")
    assert (row["value"], row["n"]) == (1, 12)


@pytest.mark.parametrize(
    ("compounds", "about", "reason"),
    [
        (["a", "b", "c", "d"], {}, "no compound has two wells"),
        (["DMSO", "DMSO", "", ""], {}, "no well has a compound"),
        (["a", "a", "b", "b"], {"plate": list("pqrs")}, "no plate has 3 wells"),
    ],
)
def test_without_replicates_there_is_a_reason(compounds, about, reason):
    wells = wells_of(compounds, np.random.default_rng(0).normal(size=(4, 3)), **about)
    (row,) = retrieval_rows([wells], "DMSO", **DRAWN).to_dict("records")
    assert np.isnan(row["value"])
    assert row["reason"].startswith(reason)
