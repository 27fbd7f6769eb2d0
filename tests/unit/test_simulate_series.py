"""Time series of sketches: identity, tracks, seeds, and what is published of them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from phantomscope.config.load import make_config
from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array, write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import relative_to
from phantomscope.images.noise import generator
from phantomscope.images.normalise import fit_normalisation
from phantomscope.images.tracks import check_tracks, read_tracks
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.raster import Nuclei, paint
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.series import Sketches, simulate_series
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages import data, sketching
from phantomscope.stages.checking import check, gather
from phantomscope.stages.diffusion import train_diffusion
from phantomscope.stages.publish import publish
from phantomscope.stages.synthesis import noise_of, synthesise

KIND = SketchType(
    name="real", radius=[6.0, 6.2, 6.4, 6.6, 6.8, 7.0, 7.2],
    elongation=[1, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3], intensity=[0.6] * 7,
    density=[1500.0] * 7, clustering=0.5, overlap=0.3, edge=1.0,
    background={"level": 0.1, "read_noise": 0.02, "variation": 0.02},
)  # fmt: skip
PARAMETERS = SketchParameters(types=[KIND])
SIZES = {"hela": (150, 160), "gowt1": (260, 250), "celegans": (10, 80, 90),
         "fitted": (90, 100)}  # fmt: skip


def options(organism: str, **more) -> Simulate:
    motion = {"division": 0.1, "regrowth": 3, "speed": 3}
    given = {"organism": organism, "size": SIZES[organism], "frames": 6, "images": 12,
             "motion": motion, "nucleoli": (0, 0)}  # fmt: skip
    if organism == "celegans":
        given["objects"] = 12
    return Simulate(**(given | more))


@pytest.mark.parametrize("organism", SIZES)
def test_tracks_are_those_of_the_labels(organism):
    series = simulate_series(PARAMETERS, options(organism), 5, 1)
    present = []
    for frame in range(6):
        sketch, labels = series.draw(frame)
        assert sketch.shape == labels.shape == SIZES[organism]
        assert sketch.dtype == np.float32
        assert labels.dtype == np.uint16
        present.append(set(np.unique(labels)) - {0})
        assert series.objects(frame) == len(present[-1])
        inside = sketch[labels > 0].mean()
        assert inside > 2 * max(sketch[labels == 0].mean(), 0.1)
    check_tracks(series.tracks, "here", present)
    assert len(series.tracks) > 3
    children: dict[int, int] = {}
    for track in series.tracks:
        children[track.parent] = children.get(track.parent, 0) + 1
    del children[0]
    assert children  # some divided
    assert max(children.values()) <= 2


def test_a_label_is_the_same_cell_in_the_next_frame():
    given = options("hela", motion={"division": 0, "speed": 2, "turning": 2})
    series = simulate_series(PARAMETERS, given, 0, 0)
    before = series.draw(0)[1]
    for frame in range(1, 6):
        after = series.draw(frame)[1]
        both = set(np.unique(before)) & set(np.unique(after)) - {0}
        assert len(both) > 3
        for label in both:
            a, b = before == label, after == label
            if min(a.sum(), b.sum()) > 150:  # not cut by the edge
                assert (a & b).sum() > 0.3 * min(a.sum(), b.sum())
        before = after


def test_cells_enter_and_leave_but_not_those_of_an_embryo():
    walk = {"division": 0, "speed": 12, "persistence": 0.9}
    series = simulate_series(PARAMETERS, options("hela", frames=12, motion=walk), 1, 0)
    assert any(track.begin > 0 for track in series.tracks)
    assert any(track.end < 11 for track in series.tracks)
    closed = options("celegans", frames=12, motion=walk)
    tracks = simulate_series(PARAMETERS, closed, 1, 0).tracks
    assert {(t.begin, t.end) for t in tracks} == {(0, 11)}


def test_a_series_is_a_function_of_seed_and_number():
    sketches = Sketches(PARAMETERS, options("fitted"), 7)
    drawn = {n: sketches.draw(n) for n in (11, 0, 8, 3)}
    again = Sketches(PARAMETERS, options("fitted"), 7)
    for number in sorted(drawn):
        one = again.draw(number)
        np.testing.assert_array_equal(one.sketch, drawn[number].sketch)
        np.testing.assert_array_equal(one.labels, drawn[number].labels)
        assert one.frame == number % 6
    assert (drawn[0].labels != again.draw(6).labels).any()


def test_the_background_stands_still():
    series = simulate_series(PARAMETERS, options("fitted"), 0, 0)
    frames = [series.draw(n) for n in (0, 1)]
    empty = np.logical_and(*(labels == 0 for _, labels in frames))
    empty[:] &= np.abs(frames[0][0] - frames[1][0]) < 1e-6
    assert empty.mean() > 0.2
    assert frames[0][0][empty].std() > 0.001


def test_still_images_do_not_depend_on_the_options_of_series():
    still = options("hela", frames=1, images=1)
    moving = options("hela")
    for a, b in zip(simulate_sketch(PARAMETERS, still, 0, 3)[:2],
                    simulate_sketch(PARAMETERS, moving, 0, 3)[:2],
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"organism": "meristem", "size": (20, 40, 40)}, "meristem"),
        ({"organism": "fitted", "size": (20, 40, 40)}, "fitted volumes"),
        ({"images": 10}, "multiple of `frames`"),
        ({"shards": 3}, "number of series"),
        ({"variant": "code"}, "variant: code"),
        ({"texture": 0.1, "organism": "fitted"}, "texture"),
        ({"organism": "celegans", "size": (9, 40, 40), "overlap": 0.2}, "celegans"),
    ],
)
def test_series_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        Simulate(**({"organism": "hela", "frames": 6, "images": 12} | wrong))


def test_tracks_without_series_are_refused():
    formats = {"formats": ["ctc"], "creators": ["Doe, Jane"]}
    with pytest.raises(PhantomscopeError, match="frames: 16"):
        make_config({"publish": formats}).check_sketches()
    with pytest.raises(PhantomscopeError, match="single frames"):
        make_config({"publish": {**formats, "images": 3},
                     "simulate": {"frames": 2, "images": 4}})  # fmt: skip


@pytest.mark.parametrize("organism", ["hela", "gowt1"])
def test_overlapping_cells_keep_to_the_share(organism):
    size = SIZES[organism]
    apart = Simulate(organism=organism, size=size, objects=60)
    over = Simulate(organism=organism, size=size, objects=60, overlap=0.4)
    a, b = (simulate_sketch(PARAMETERS, o, 2, 0) for o in (apart, over))
    assert b[1].max() > a[1].max()
    # Light adds up: the brightest is more than one cell gives.
    assert a[0].max() < 0.95 < b[0].max()


def test_no_nucleus_is_covered_by_more_than_the_share():
    given = Simulate(organism="hela", size=(220, 240), objects=80, overlap=0.3)
    drawer = drawer_of("hela")
    plan, order = drawer.plan(given, drawer.kind(given), (1, 220, 240), generator("o"))
    n = len(plan.nuclei)
    how = {"shape": (1, 220, 240), "box": plan.box, "released": False}
    numbers = np.arange(1, n + 1)
    _, labels = paint(plan.nuclei, **how, overlap=order.overlap, numbers=numbers)
    visible = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    covered = []
    for k in np.flatnonzero(visible):
        nuclei = plan.nuclei
        alone = Nuclei(**{name: v[k : k + 1] for name, v in vars(nuclei).items()})
        whole = np.count_nonzero(paint(alone, **how)[1])
        covered.append(1 - visible[k] / whole)
    assert max(covered) <= 0.3
    assert max(covered) > 0.15
    assert 0 < len(covered) < n  # some were left out


# From sketches to what is published


def simulated(folder: Path, shards: int, organism: str = "hela") -> list[ImageSet]:
    given = options(organism).model_dump(exclude={"shards", "images"})
    config = make_config({"simulate": {**given, "images": 18, "shards": shards}})
    PARAMETERS.save(folder / "sketch.yaml")
    sets = []
    for shard in range(shards):
        target = folder / f"{shards}/shard-{shard:03d}"
        sketching.simulate(
            config, sketch=folder / "sketch.yaml", sketches=target, shard=shard
        )
        sets.append(ImageSet.open(target))
    return sets


def test_shards_hold_whole_series_and_change_nothing(tmp_path):
    (whole,) = simulated(tmp_path, 1)
    parts = simulated(tmp_path, 2)
    assert [len(part) for part in parts] == [6, 12]
    assert [i for part in parts for i in part.ids] == whole.ids
    for part in parts:
        for name in part.ids:
            assert str(part.row(name)) == str(whole.row(name))
            track = part.row(name)["tracks"]
            texts = {(one.folder / track).read_text() for one in (part, whole)}
            assert len(texts) == 1
    row = whole.row("sketch-000009")
    assert (row["group"], row["frame"]) == ("series-000001", 3)
    assert data.exposure(row) == 1
    assert data.exposure({"group": "sketch-000009"}) == 9


def test_noise_may_be_that_of_the_series():
    row = {"id": "sketch-000009", "group": "series-000001"}
    for kind, name in (("independent", row["id"]), ("shared", row["group"])):
        synthesise = make_config({"synthesise": {"series_noise": kind}}).synthesise
        assert noise_of(row, synthesise) == name


def test_tracks_come_through_synthesis_check_and_gather(tmp_path):
    """By a network that has learnt nothing; so no label is erased."""
    config = make_config({
        "simulate": {"organism": "hela", "size": [64, 64], "images": 4, "frames": 2,
                     "shards": 2, "overlap": 0.2},
        "network": {"preset": "small"},
        "train": {"steps": 1, "batch_size": 1, "patch": 32, "device": "cpu"},
        "synthesise": {"steps": 1, "device": "cpu", "series_noise": "shared"},
        "check": {"erase_vanished": False, "max_vanished": 1, "max_phantoms": 10,
                  "min_agreement": 0},
    })  # fmt: skip
    at = {name: tmp_path / name for name in (
        "prepared", "normalisation", "sketch", "model", "metrics", "state", "start")
    }  # fmt: skip
    PARAMETERS.model_copy(
        update={"types": [KIND.model_copy(update={"name": "hela"})]}
    ).save(at["sketch"])
    with ImageSetWriter(at["prepared"], {}) as writer:
        raw = 100 + 900 * simulate_sketch(PARAMETERS, options("fitted"), 0, 0)[0]
        writer.add("r", raw.astype(np.uint16), split="train", stratum="all")
    real = ImageSet.open(at["prepared"])
    scale = fit_normalisation(real, real.select(split="test"), config.normalise)
    scale.save(at["normalisation"])
    write_json(at["start"], {"value": 50})

    def stage(function, *names, **more):
        return function(config, **{name: at[name] for name in names}, **more)

    stage(train_diffusion, "prepared", "normalisation", "model", "metrics", "state")
    checks, photographs = [], []
    for shard in range(2):
        sets = {name: tmp_path / f"{name}/shard-{shard:03d}" for name in (
            "sketches", "synthetic", "checks", "photographs")}  # fmt: skip
        stage(sketching.simulate, "sketch", sketches=sets["sketches"], shard=shard)
        stage(synthesise, "prepared", "normalisation", "model", "start",
              sketches=sets["sketches"], synthetic=sets["synthetic"])  # fmt: skip
        stage(check, "normalisation", "sketch", synthetic=sets["synthetic"],
              checks=sets["checks"])  # fmt: skip
        stage(sketching.photograph, "prepared", "normalisation", "sketch",
              sketches=sets["sketches"], photographs=sets["photographs"])  # fmt: skip
        checks.append(sets["checks"])
        photographs.append(sets["photographs"])
    for name, parts in (("checked", checks), ("camera", photographs)):
        gather(config, parts=parts, gathered=tmp_path / name)
        images = ImageSet.open(tmp_path / name)
        assert list(images.table["group"]) == [f"series-00000{n}" for n in (0, 0, 1, 1)]
        assert list(images.table["frame"]) == [0, 1, 0, 1]
        for series in ("series-000000", "series-000001"):
            frames = images.select(group=series)
            (file,) = {frames.folder / one for one in frames.table["tracks"]}
            present = [set(np.unique(frames.mask(i))) - {0} for i in frames.ids]
            assert len(present[0]) > 1
            check_tracks(read_tracks(file), file, present)
            assert frames.table["limits"].nunique() == 1


@pytest.mark.parametrize("organism", ["hela", "celegans"])
def test_what_a_check_leaves_is_published_with_valid_tracks(tmp_path, organism):
    (made,) = simulated(tmp_path, 1, organism)
    with ImageSetWriter(tmp_path / "prepared", {"licence": "CC BY 4.0"}) as writer:
        raw = np.zeros(SIZES[organism], np.uint16)
        raw[..., 0] = 1
        writer.add("r", raw, split="train", group="g", pixel_size=0.5)
    # The fourth frame of the second series is rejected, a cell of its second erased.
    rows = []
    edit = relative_to(tmp_path / "checked")
    (tmp_path / "checked/labels").mkdir(parents=True)
    for name in made.ids:
        row = edit(made.row(name), made.folder / "manifest.csv")
        if name == "sketch-000007":
            labels = made.mask(name)
            # One that is there before and after.
            beside = [made.mask(f"sketch-00000{n}") for n in (6, 8)]
            there = np.isin(labels, beside[0]) & np.isin(labels, beside[1])
            gone = int(np.bincount(labels[there & (labels > 0)]).argmax())
            labels[labels == gone] = 0
            row["mask"] = "labels/erased.ome.tif"
            tifffile.imwrite(tmp_path / "checked" / row["mask"], labels)
        if name != "sketch-000009":
            rows.append(row)
    write_manifest(tmp_path / "checked", rows, {})
    (tmp_path / "checked/summary.json").write_text(
        '{"images": 18, "kept": 17, "rejected": 1, "objects": 9, "erased_labels": 1, '
        '"reasons": {}}'
    )
    config = make_config({
        "simulate": {"frames": 6, "images": 18},
        "publish": {"formats": ["ctc", "tiff"], "creators": ["Doe, Jane"]},
    })  # fmt: skip
    out = tmp_path / "published"
    publish(config, prepared=tmp_path / "prepared", checked=tmp_path / "checked",
            published=out)  # fmt: skip
    assert "ctc/NN_GT/TRA/man_track.txt" in (out / "datasheet.md").read_text()
    names = sorted(path.name for path in (out / "ctc").iterdir())
    assert names == [f"{n:02d}{end}" for n in (1, 2, 3, 4) for end in ("", "_GT")]
    lengths = {"01": 6, "02": 3, "03": 2, "04": 6}
    for name, length in lengths.items():
        images = sorted((out / "ctc" / name).iterdir())
        assert [p.name for p in images] == [f"t{t:03d}.tif" for t in range(length)]
        truth = out / f"ctc/{name}_GT"
        masks = [read_array(truth / f"TRA/man_track{t:03d}.tif") for t in range(length)]
        present = [set(np.unique(mask)) - {0} for mask in masks]
        tracks = read_tracks(truth / "TRA/man_track.txt")
        check_tracks(tracks, name, present)
        for t, mask in enumerate(masks):
            assert mask.dtype == np.uint16
            assert mask.shape == SIZES[organism]
            seen = read_array(truth / f"SEG/man_seg{t:03d}.tif")
            np.testing.assert_array_equal(seen, mask)
    # The erased cell goes on as a track of its own.
    again = read_tracks(out / "ctc/02_GT/TRA/man_track.txt")
    assert any(t.parent == gone and t.begin == 2 for t in again)
    whole = ImageSet.open(out)
    assert set(whole.table["sequence"]) == {1, 2, 3, 4}
    row = whole.row("sketch-000010")
    assert (row["time"], row["tracks"]) == (0, "tracks/series-000001.txt")
    assert read_tracks(out / row["tracks"])
