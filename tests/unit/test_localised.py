"""Structures as localised molecules: sketches, tables, and that both agree."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy.spatial import KDTree

from phantomscope.acquire.localisations.images import acquire_localisations
from phantomscope.acquire.localisations.read import read_localisations
from phantomscope.acquire.localisations.write import write_table
from phantomscope.config.data import Normalise, Source
from phantomscope.config.load import make_config
from phantomscope.config.simulation import Simulate
from phantomscope.config.structures import Structures
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import fit_normalisation
from phantomscope.simulate import structures
from phantomscope.simulate.blinking import molecules
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.simulate.structures import (
    StructureDrawer,
    drawn_molecules,
    drawn_structure,
    reference_limits,
)
from phantomscope.stages.localising import STREAM, simulate_tables

NAMES = ("microtubules", "mitochondria")
CELL = {"cell_diameter": 12.0}
SIZE = (96, 112)
SMALL = {
    "filaments": CELL,
    "mitochondria": {**CELL, "nucleus": 0.0},
    "labelling": {"density": 300.0},
    "blinking": {"frames": 2000},
}
LOCALISED = Structures(appearance="localised", **SMALL)


@pytest.fixture(autouse=True, scope="module")
def fewer_references():
    """Common limits of small sketches need not be those of many."""
    before, structures.REFERENCE = structures.REFERENCE, 250_000
    yield
    structures.REFERENCE = before
    reference_limits.cache_clear()


def field_of(options, size=SIZE):
    return size[0] * options.pixel, size[1] * options.pixel


def sketch_of(name, options, number, seed=1):
    given = Simulate(organism=name, size=SIZE, structures=options)
    kind = drawer_of(name).kind(given)
    parameters = SketchParameters(types=[kind])
    return simulate_sketch(parameters, given, seed, number)[:2]


def localised(name="microtubules", seed=1, **blinking):
    options = LOCALISED.model_copy(
        update={"blinking": LOCALISED.blinking.model_copy(update=blinking)}
    )
    drawer = StructureDrawer(name)
    found = drawer.localised(options, field_of(options), generator(seed))
    return options, *found


def refused(message, action, *args, **kwargs):
    with pytest.raises(PhantomscopeError, match=message) as caught:
        action(*args, **kwargs)
    return caught.value


# Sketches


@pytest.mark.parametrize("name", NAMES)
def test_both_appearances_show_the_same_structure(name):
    drawn = Structures(**SMALL)
    a, b = (sketch_of(name, options, 3) for options in (drawn, LOCALISED))
    assert_array_equal(a[1], b[1])
    assert b[0].dtype == np.float32
    assert b[0].shape == SIZE
    assert np.corrcoef(a[0].ravel(), b[0].ravel())[0, 1] > 0.5
    assert b[0][b[1] > 0].mean() > 5 * b[0][b[1] == 0].mean()
    # What is drawn is the structure of this generator, and nothing else.
    rng = generator(1, "sketch", 3)
    structure = StructureDrawer(name).structure(drawn, field_of(drawn), rng)
    kind = "lines" if name == "microtubules" else "tubes"
    assert_array_equal(drawn_structure(structure, drawn, kind)[0], a[0])


@pytest.mark.parametrize("name", NAMES)
def test_sketches_do_not_depend_on_their_order(name):
    wanted = [sketch_of(name, LOCALISED, n) for n in (0, 1)]
    reference_limits.cache_clear()
    again = [sketch_of(name, LOCALISED, n) for n in (1, 0)][::-1]
    for a, b in zip(wanted, again, strict=True):
        assert_array_equal(a[0], b[0])
        assert_array_equal(a[1], b[1])
    assert not np.array_equal(wanted[0][0], wanted[1][0])
    assert not np.array_equal(sketch_of(name, LOCALISED, 0, 2)[1], wanted[0][1])


@pytest.mark.parametrize("weight", ["count", "photons"])
def test_an_image_holds_as_much_as_its_molecules(weight):
    options, structure, table = localised()
    drawing = options.drawing.model_copy(update={"weight": weight})
    options = options.model_copy(update={"drawing": drawing})
    image = drawn_molecules(table, structure.field, options)
    mass = np.ones(len(table)) if weight == "count" else table["photons"].to_numpy()
    places = table[["y", "x"]].to_numpy()
    gap = np.minimum(places, structure.field - places).min(axis=1)
    inner = gap > 5.01 * table["precision"]
    assert inner.mean() > 0.9
    assert mass[inner].sum() <= image.sum(dtype=float) * (1 + 1e-6)
    assert image.sum(dtype=float) <= mass.sum() * (1 + 1e-6)


def test_molecules_lie_around_their_filament():
    options, structure, table = localised(false_density=0.0)
    lines, labelling = structure.lines, options.labelling
    owner = np.repeat(lines.ids, np.diff(lines.starts))
    assert len(table) > 3000
    spread = []
    for one in np.unique(table["id"]):
        found = table[table["id"] == one]
        tree = KDTree(lines.points[owner == one])
        distance, _ = tree.query(found[["y", "x"]].to_numpy())
        reach = 12.5 + labelling.linker + 5 * labelling.linker_spread
        # Points of a line are a step apart.
        reach = np.hypot(reach, options.filaments.step / 2)
        spread.append((distance - reach) / found["precision"])
    assert np.concatenate(spread).max() < 5


def test_filters_linking_and_kernel_are_those_of_tables():
    options, structure, table = localised(lit=4.0)
    every = drawn_molecules(table, structure.field, options).sum()

    def share(**drawing):
        how = options.drawing.model_copy(update=drawing)
        changed = options.model_copy(update={"drawing": how})
        return drawn_molecules(table, structure.field, changed).sum() / every

    sharp = float(table["precision"].median())
    assert share(max_precision_nm=sharp) == pytest.approx(0.5, abs=0.03)
    assert share(link_nm=40.0) < 0.5
    assert share(render="histogram") == pytest.approx(1, abs=0.01)


# Units


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_its_own_scale_has_its_percentiles_at_0_and_1(name):
    options = LOCALISED.model_copy(
        update={"scope": "image", "percentiles": (1.0, 99.0)}
    )
    sketch, _ = sketch_of(name, options, 0)
    assert_allclose(np.percentile(sketch, [1, 99]), [0, 1], atol=1e-6)
    assert sketch.max() > 1


def test_nothing_seen_is_dark():
    options = LOCALISED.model_copy(
        update={
            "labelling": LOCALISED.labelling.model_copy(update={"density": 0.0}),
            "blinking": LOCALISED.blinking.model_copy(update={"false_density": 0.0}),
        }
    )
    sketch, labels = sketch_of("microtubules", options, 0)
    assert not sketch.any()
    assert labels.any()


def config_of(name="microtubules", images=2, size=SIZE, structures=SMALL, **more):
    simulate = {
        "organism": name, "images": images, "size": list(size),
        "structures": structures, **more,
    }  # fmt: skip
    return make_config({"simulate": simulate, "seed": 5})


@pytest.mark.parametrize("name", NAMES)
def test_sketches_are_scaled_like_images_of_tables(name, tmp_path):
    config = config_of(name, images=16)
    simulate_tables(config, tables=tmp_path / "tables")
    facts = json.loads((tmp_path / "tables/simulation.json").read_text())
    source = Source(
        kind="localisations", path=str(tmp_path / "tables"),
        localisations={"pixel_size_nm": 27.0, "field_nm": facts["field_nm"]},
    )  # fmt: skip
    acquire_localisations(source, tmp_path / "images")
    images = ImageSet.open(tmp_path / "images")
    assert len(images) == 16
    scale = fit_normalisation(images, images, Normalise())
    # Limits of the real images are those of other structures of the same options.
    low, high = reference_limits(name, LOCALISED, field_of(LOCALISED))
    wanted = scale.limits[images.ids[0]]
    assert low == pytest.approx(wanted[0], abs=0.01 * high)
    assert high == pytest.approx(wanted[1], rel=0.3)
    # A table shows what its stream draws; text has thousandths of nm.
    identifier = images.ids[1]
    given = Simulate(organism=name, size=SIZE, structures=LOCALISED)
    drawer, rng = drawer_of(name), generator(5, STREAM, 1)
    sketch, labels = drawer.draw(given, drawer.kind(given), rng, None)
    unit = (images.image(identifier) - low) / (high - low)
    assert_allclose(unit, sketch, atol=2e-3)
    truth = read_array(tmp_path / f"tables/truth/{name}-001.ome.tif")
    assert_array_equal(truth, labels)


@pytest.mark.parametrize("name", NAMES)
def test_no_sketch_shows_the_cell_of_a_table(name, tmp_path):
    """With the same seed and number: sketches would teach what is to be tested."""
    simulate_tables(config_of(name, images=3), tables=tmp_path / "tables")
    for number in range(3):
        truth = read_array(tmp_path / f"tables/truth/{name}-{number:03d}.ome.tif")
        for other in range(3):
            _, labels = sketch_of(name, LOCALISED, other, seed=5)
            together = ((truth > 0) & (labels > 0)).mean()
            # As much as chance has it, for masks that know nothing of each other.
            chance = (truth > 0).mean() * (labels > 0).mean()
            assert together < 0.5 * min((truth > 0).mean(), (labels > 0).mean())
            assert together < 3 * chance + 0.02


def test_a_config_draws_and_scales_both_alike():
    look = {"appearance": "localised"}
    given = {"organism": "microtubules", "structures": look}

    def check(**sections):
        make_config({"simulate": given, **sections}).check_sketches()

    check()
    where = refused("normalise.scope", check, normalise={"scope": "image"}).where
    assert where == "simulate.structures.scope"
    refused("99.0", check, normalise={"high_percentile": 99.0})
    tables = {"kind": "localisations", "path": "tables"}
    error = refused("pixel_size_nm", check, source=tables)
    assert error.where == "simulate.structures.pixel"
    tables["localisations"] = {"pixel_size_nm": 27.0}
    check(source=tables)
    tables["localisations"]["link_nm"] = 20.0
    error = refused("link_nm", check, source=tables)
    assert error.where == "simulate.structures.drawing.link_nm"
    look["drawing"] = {"link_nm": 20.0}
    check(source=tables)
    given["structures"] = {"appearance": "drawn"}
    check(source=tables, normalise={"scope": "image"})
    with pytest.raises(ValidationError, match=r"\[low, high\]"):
        Structures(percentiles=(60, 99))


# Tables


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".smlm"])
def test_a_table_is_read_as_it_was_written(suffix, tmp_path):
    table = molecules(localised()[2])
    path = tmp_path / f"a{suffix}"
    write_table(path, table)
    found = read_localisations(path)
    assert found.source.format == ("smlm" if suffix == ".smlm" else "thunderstorm")
    for name in ("x", "y", "photons", "uncertainty", "background"):
        exact = {"rtol": 1e-6} if suffix == ".smlm" else {"rtol": 0, "atol": 6e-4}
        assert_allclose(getattr(found, name), getattr(table, name), **exact)
    assert_array_equal(found.frame, table.frame)
    assert found.z is None
    first = path.read_bytes()
    write_table(tmp_path / f"b{suffix}", table)
    assert (tmp_path / f"b{suffix}").read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 2


def test_other_suffixes_are_refused(tmp_path):
    table = molecules(localised()[2])
    error = refused("suffix", write_table, tmp_path / "a.hdf5", table)
    assert ".smlm" in error.fix
    assert not list(tmp_path.iterdir())


def content(folder):
    """Bytes of each file; pixels of an image, whose header has a number of its own."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): read_array(p).tobytes()
        if p.suffix == ".tif"
        else p.read_bytes()
        for p in paths
    }


def test_a_killed_run_goes_on_and_gives_the_same(tmp_path):
    config = config_of(images=3)
    simulate_tables(config, tables=tmp_path / "whole")
    whole = content(tmp_path / "whole")
    assert len(whole) == 7
    # As a run leaves it that was killed after its first table.
    partial = tmp_path / ".again.partial"
    (partial / "truth").mkdir(parents=True)
    for name in (
        "simulation.json", "microtubules-000.csv.gz", "truth/microtubules-000.ome.tif",
    ):  # fmt: skip
        (partial / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    kept = (partial / "microtubules-000.csv.gz").stat().st_mtime_ns
    simulate_tables(config, tables=tmp_path / "again")
    assert content(tmp_path / "again") == whole
    first = tmp_path / "again/microtubules-000.csv.gz"
    assert first.stat().st_mtime_ns == kept
    # Another run takes nothing up, and replaces what is its own kind.
    partial.mkdir()
    (partial / "simulation.json").write_bytes(whole["simulation.json"])
    (partial / "microtubules-002.csv.gz").write_bytes(b"other")
    simulate_tables(config_of(images=1), tables=tmp_path / "again")
    assert sorted(content(tmp_path / "again")) == [
        "microtubules-000.csv.gz", "simulation.json", "truth/microtubules-000.ome.tif",
    ]  # fmt: skip
    assert content(tmp_path / "again")["microtubules-000.csv.gz"] == first.read_bytes()
    assert first.read_bytes() == whole["microtubules-000.csv.gz"]


def test_tables_are_calibrated_on_real_ones_in_turn(tmp_path):
    real = []
    for number, photons in enumerate((500.0, 3000.0)):
        _, _, table = localised(seed=number, photons=photons, blinks=1.5)
        real.append(tmp_path / f"real{number}.smlm")
        write_table(real[-1], molecules(table))
    config = config_of(images=3)
    simulate_tables(config, tables=tmp_path / "out", calibrate=real, suffix=".smlm")
    facts = json.loads((tmp_path / "out/simulation.json").read_text())
    assert [one["movie"] for one in facts["tables"].values()] == [0, 1, 0]
    assert facts["data_kind"] == "simulated"
    for number, movie in enumerate(facts["movies"]):
        assert movie["table"] == f"real{number}.smlm"
        assert movie["source"]["photons"] == "calibration"
        assert movie["source"]["psf_sigma"] == movie["source"]["pixel"] == "config"
        assert set(movie["source"]) == set(movie["blinking"])
        old = read_localisations(real[number])
        new = read_localisations(tmp_path / f"out/microtubules-00{number}.smlm")
        assert np.median(new.uncertainty) == pytest.approx(
            np.median(old.uncertainty), rel=0.05
        )
        assert new.photons.mean() == pytest.approx(old.photons.mean(), rel=0.1)


def test_a_spot_that_contradicts_the_precision_is_named(tmp_path, capsys):
    real = tmp_path / "real.csv"
    write_table(real, molecules(localised()[2]))
    for sigma, warned in ((130.0, False), (260.0, True)):
        blinking = {**SMALL["blinking"], "psf_sigma": sigma}
        config = config_of(images=1, structures={**SMALL, "blinking": blinking})
        simulate_tables(config, tables=tmp_path / "out", calibrate=[real])
        assert ("more precise than" in capsys.readouterr().out) == warned


def test_what_cannot_be_simulated_is_refused(tmp_path):
    target = tmp_path / "out"
    nuclei = config_of("hela", structures={})
    refused("no tables of `hela`", simulate_tables, nuclei, tables=target)
    config = config_of(images=1)
    refused("suffix", simulate_tables, config, tables=target, suffix=".txt")
    bare = tmp_path / "bare.csv"
    bare.write_text("x [nm],y [nm],frame\n1,2,3\n5,6,7\n")
    error = refused("photons", simulate_tables, config, tables=target, calibrate=[bare])
    assert error.where == str(bare) or error.where == bare
    short = tmp_path / "short.csv"
    short.write_text(
        "x [nm],y [nm],frame,photons,uncertainty [nm]\n1,2,3,90,8\n9,6,7,90,8\n"
    )
    error = refused("2 rows", simulate_tables, config, tables=target, calibrate=[short])
    assert str(error.where) == str(short)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    refused("not of this program", simulate_tables, config, tables=mine)
    assert not target.exists()
    assert (mine / "notes.txt").read_text() == "keep"
