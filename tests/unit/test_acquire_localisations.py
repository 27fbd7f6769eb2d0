"""From tables of localisations, one's own or downloaded, to an image set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.localisation_tables import (
    SMAP,
    THUNDERSTORM,
    write_picasso,
    write_smlm,
    zipped,
)
from tests.server import Server

from phantomscope.acquire.localisations import draw, read_localisations
from phantomscope.acquire.source import acquire
from phantomscope.config.load import make_config, sections
from phantomscope.config.localisations import Localisations
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.localisations.render import View, render
from phantomscope.images.writer import ImageSetWriter
from phantomscope.planning.sources import source_images
from phantomscope.stages import data as stages

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared/data/C-colicoords-lacY-eYFP-smlm"
SHIPPED = ROOT / "config/datasets.yaml"


def cells(count: int = 400, seed: int = 0, side: float = 3000.0) -> dict[str, Any]:
    """Columns of a table with a precision."""
    rng = np.random.default_rng(seed)
    return {
        "frame": rng.integers(0, 100, count).astype(np.uint32),
        "x": (rng.random(count) * side).astype(np.float32),
        "y": (rng.random(count) * side / 2).astype(np.float32),
        "uncertainty_xy": rng.uniform(5, 30, count).astype(np.float32),
    }


def text(columns: dict[str, Any]) -> str:
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    lines = [",".join(map(repr, row)) for row in rows]
    return "\n".join(["frame,x [nm],y [nm],uncertainty_xy [nm]", *lines]) + "\n"


class Place:
    """A folder of tables, and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.tables, self.set = folder / "tables", folder / "set"
        self.tables.mkdir()

    def config(self, path: Path | None = None, **options: Any) -> Any:
        source = {"kind": "localisations", "path": str(path or self.tables)}
        own = {k: options.pop(k) for k in ("group", "limit") if k in options}
        return make_config({"source": source | own | {"localisations": options}})

    def acquire(self, path: Path | None = None, **options: Any) -> ImageSet:
        acquire(self.config(path, **options).source, self.set)
        return ImageSet.open(self.set)

    def failure(self, path: Path | None = None, **options: Any) -> PhantomscopeError:
        shutil.rmtree(self.set, ignore_errors=True)
        with pytest.raises(PhantomscopeError) as caught:
            self.acquire(path, **options)
        assert not self.set.exists()
        assert caught.value.fix
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# One's own tables


def test_a_folder_of_tables_of_all_formats(place: Place) -> None:
    write_smlm(place.tables / "c10.smlm", cells(seed=1))
    (place.tables / "c9.csv").write_text(text(cells(seed=2)))
    (place.tables / "readme.md").write_text("x")
    columns = cells(seed=3, side=30)
    columns["lpx"] = columns["lpy"] = columns.pop("uncertainty_xy") / 100
    write_picasso(place.tables / "locs.hdf5", columns, yaml="Pixelsize: 100\n")
    images = place.acquire()
    assert sorted(images.ids) == ["c10", "c9", "locs"]
    assert set(images.table["group"]) == {"c10", "c9", "locs"}
    formats = images.table["table_format"]
    assert formats[["c9", "c10", "locs"]].tolist() == [
        "thunderstorm",
        "smlm",
        "picasso",
    ]
    for name in images.ids:
        row, image = images.row(name), images.image(name)
        assert (image.dtype, image.ndim) == (np.float32, 2)
        assert (row["localisations"], row["outside"], row["table_rows"]) == (
            400,
            0,
            400,
        )
        # Gaussians at the edge reach beyond it.
        assert 380 < image.sum() <= 400.001
        assert row["pixel_size"] == 0.02
    assert images.info["ignored"] == {".md": 1, ".yaml": 1}
    assert images.info["options"]["localisations"]["render"] == "gaussian"
    images.verify()


def test_the_image_is_that_of_the_table(place: Place) -> None:
    path = write_smlm(place.tables / "a.smlm", cells())
    options = {"pixel_size_nm": 25.0, "field_nm": (100, -50, 1100, 700)}
    images = place.acquire(path, **options)
    table = read_localisations(path)
    view = View(100.0, -50.0, 30, 40, 25.0)
    np.testing.assert_array_equal(images.image("a"), render(table, view))
    row = images.row("a")
    inside = (table.x >= 100) & (table.x < 1100) & (table.y < 700)
    assert row["localisations"] == inside.sum() == 400 - row["outside"]
    assert (row["left_nm"], row["top_nm"], row["pixel_size"]) == (100, -50, 0.025)
    counted = place.acquire(path, render="histogram", **options).image("a")
    assert counted.sum() == inside.sum()
    wide = place.acquire(path, sigma_nm=40.0, **options).image("a")
    np.testing.assert_array_equal(wide, render(table, view, sigma=40.0))


def test_filters_and_joined_blinks_are_counted(place: Place) -> None:
    columns = cells()
    columns["uncertainty_xy"][:7] = np.nan
    path = write_smlm(place.tables / "a.smlm", columns)
    problem = place.failure(path)
    assert "row 1, column `uncertainty_xy`" in str(problem)
    assert "invalid: drop" in str(problem)
    options: dict[str, Any] = {"invalid": "drop", "max_precision_nm": 20}
    few = place.acquire(path, first_frame=50, **options).row("a")
    assert (few["table_rows"], few["dropped"]) == (400, 7)
    good = (columns["uncertainty_xy"] <= 20) & (columns["frame"] >= 50)
    assert few["localisations"] == good.sum() == 393 - few["filtered"]
    linked = place.acquire(path, link_nm=60, link_gap=5, **options).row("a")
    total = sum(linked[n] for n in ("localisations", "filtered", "linked", "dropped"))
    assert linked["linked"] > 0
    assert total == 400
    assert "none of its 393" in str(
        place.failure(path, invalid="drop", first_frame=200)
    )


def test_drift_is_corrected(place: Place) -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((60, 2)) * 2000
    chosen, frame = rng.integers(0, 60, 6000), rng.integers(0, 1000, 6000)
    x, y = (corners[chosen] + rng.normal(0, 5, (6000, 2))).T
    columns = {"frame": frame.astype(np.uint32), "x": x + 0.15 * frame, "y": y}
    columns["uncertainty"] = np.full(6000, 5.0)
    path = write_smlm(place.tables / "a.smlm", columns)
    blurred = place.acquire(path).image("a")
    images = place.acquire(path, drift_bins=5)
    row = images.row("a")
    assert row["drift_nm"] == pytest.approx(150 * 0.9, abs=15)
    assert row["drift_residual_nm"] < 5
    assert row["outside"] == 0
    # Sharp again: 60 spots, not 60 strokes.
    assert images.image("a").max() > 2 * blurred.max()


def test_groups_limits_and_one_file(place: Place) -> None:
    for name in ("p1-a", "p1-b", "p2-a", "p2-b"):
        write_smlm(place.tables / f"{name}.smlm", cells(seed=len(name)))
    images = place.acquire(group=r"^(p\d)", limit=2)
    assert images.table["group"].to_dict() == {"p1-a": "p1", "p2-b": "p2"}
    assert place.acquire(place.tables / "p1-b.smlm").ids == ["p1-b"]
    assert "no group" in str(place.failure(group=r"(q\d)"))


def test_a_killed_run_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_smlm(place.tables / f"{name}.smlm", cells(seed=ord(name)))
    whole = place.acquire().table["sha256"].to_dict()
    shutil.rmtree(place.set)
    add, added = ImageSetWriter.add, []

    def dying(self: ImageSetWriter, name: str, *args: Any, **columns: Any) -> None:
        added.append(name)
        if added == ["a", "b"]:
            raise KeyboardInterrupt
        add(self, name, *args, **columns)

    monkeypatch.setattr(ImageSetWriter, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        place.acquire()
    assert place.acquire().table["sha256"].to_dict() == whole
    assert added == ["a", "b", "b", "c"]


def test_all_problems_are_told_at_once(place: Place) -> None:
    write_smlm(place.tables / "good.smlm", cells())
    (place.tables / "plain.csv").write_text(THUNDERSTORM.replace("x [nm]", "x"))
    (place.tables / "no.csv").write_text("a,b\n1,2\n")
    (place.tables / "cut.smlm").write_bytes(b"PK\3\4 manifest.json")
    found = str(place.failure())
    assert "3 problems, 3 of 4" in found
    for part in ("plain.csv: line 1", "no.csv: line 1", "cut.smlm: this archive"):
        assert part in found


def test_places_without_tables(place: Place) -> None:
    assert "no table in" in str(place.failure())
    (place.tables / "a.png").write_bytes(b"x")
    assert "1 x .png" in str(place.failure())
    assert "no such file" in str(place.failure(place.tables / "none"))
    (place.tables / "a.csv").write_text(SMAP)
    write_smlm(place.tables / "a.smlm", cells())
    assert "a.csv and a.smlm have the same name" in str(place.failure())


def test_what_cannot_be_drawn(place: Place) -> None:
    columns = cells()
    del columns["uncertainty_xy"]
    path = write_smlm(place.tables / "a.smlm", columns)
    problem = place.failure(path)
    assert "no column for uncertainty" in str(problem)
    assert "sigma_nm" in str(problem)
    assert problem.where == str(path)
    assert "too large" in str(place.failure(path, sigma_nm=9, pixel_size_nm=0.01))
    found = str(place.failure(path, sigma_nm=9, field_nm=(1e5, 1e5, 2e5, 2e5)))
    assert "no localisation lies in the field" in found
    assert "x is 0 to" in found or "x is " in found
    assert "drift_bins" in str(place.failure(path, sigma_nm=9, drift_bins=100))


def test_memory_does_not_grow_with_the_table(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_smlm(place.tables / "a.smlm", cells(200_000))
    longest = []
    chunks = draw.localisation_chunks

    def watched(*args: Any, **options: Any) -> Any:
        for part in chunks(*args, **options):
            longest.append(len(part))
            yield part

    monkeypatch.setattr(draw, "localisation_chunks", watched)
    monkeypatch.setattr(draw, "joined", None)  # nothing holds the whole table
    draw.draw_table(path, Localisations())
    assert sum(longest) == 400_000  # two looks
    assert max(longest) < 70_000


# Configs


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"kind": "localisations"}, "needs `path`"),
        ({"kind": "localisations", "path": "a", "axes": "YX"}, "are of images"),
        ({"kind": "localisations", "path": "a", "labels": "b"}, "`labels` belongs"),
        ({"kind": "localisations", "path": "a", "pixel_size_um": 1}, "are of images"),
        (
            {"kind": "folder", "path": "a", "localisations": {"unit": "nm"}},
            "such tables",
        ),
        ({"kind": "package", "path": "a"}, "`path` belongs"),
    ],
)
def test_impossible_sources(source: dict[str, Any], part: str) -> None:
    with pytest.raises(PhantomscopeError, match=part):
        make_config({"source": source})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"min_photons": 9, "max_photons": 8}, "`min_photons: 9.0` is more"),
        ({"first_frame": 9, "last_frame": 8}, "`first_frame: 9` is more"),
        ({"field_nm": [5, 0, 5, 9]}, "left < right"),
        ({"sigma_nm": 5, "render": "histogram"}, "`sigma_nm` belongs"),
        ({"unit": "px"}, "camera_pixel_nm"),
        ({"columns": [["x", "a"], ["x", "b"]]}, "named twice"),
        ({"columns": [["w", "a"]]}, "columns"),
        ({"pixel_size_nm": 0}, "pixel_size_nm"),
        ({"pixelsize": 20}, "did you mean"),
    ],
)
def test_impossible_options(place: Place, options: dict[str, Any], part: str) -> None:
    with pytest.raises(PhantomscopeError) as caught:
        place.config(**options)
    assert part in str(caught.value)


def test_other_sources_do_not_see_the_options(place: Place) -> None:
    assert "localisations" not in sections(make_config({}), "source")["source"]
    shown = sections(place.config(unit="um"), "source")["source"]["localisations"]
    assert shown["unit"] == "um"
    with pytest.raises(PhantomscopeError, match="how many source images"):
        source_images(place.config())


# Data sets


def test_a_record_of_shareloc_from_its_server_to_an_image_set(
    place: Place, tmp_path: Path
) -> None:
    tables = {}
    for name in ("sample-10", "sample-9"):
        path = write_smlm(tmp_path / "data.smlm", cells(seed=len(name)))
        tables[f"{name}/data.smlm"] = path.read_bytes()
    archive = zipped(tables | {"rdf.yaml": b"name: x", "cover.png": b"png"})
    entry = yaml.safe_load(SHIPPED.read_text())["shareloc_tubulin"]
    registry = tmp_path / "datasets.yaml"
    with Server() as server:
        entry["files"][0]["url"] = server.add("records/files-archive", archive)
        registry.write_text(yaml.safe_dump({"shareloc_tubulin": entry}))
        source = {
            "kind": "dataset", "dataset": "shareloc_tubulin", "registry": str(registry),
            "downloads": str(tmp_path / "data"),
            "localisations": {"pixel_size_nm": 27.0},
        }  # fmt: skip
        config = make_config({"source": source})
        target = Path(config.source.downloaded[0])
        stages.download(config, target=target)
    stages.acquire(config, images=place.set, files=[target])
    images = ImageSet.open(place.set)
    assert sorted(images.ids) == ["sample-10", "sample-9"]
    assert images.row("sample-9")["pixel_size"] == 0.027
    assert images.info["origin"] == entry["homepage"]
    assert images.info["options"]["localisations"]["pixel_size_nm"] == 27.0
    images.verify()


def test_a_bad_member_of_a_record_is_named(place: Place, tmp_path: Path) -> None:
    entry = yaml.safe_load(SHIPPED.read_text())["shareloc_tom22"]
    registry = tmp_path / "datasets.yaml"
    registry.write_text(yaml.safe_dump({"shareloc_tom22": entry}))
    columns = cells()
    del columns["uncertainty_xy"]
    table = write_smlm(tmp_path / "data.smlm", columns).read_bytes()
    source = make_config({"source": {
        "kind": "dataset", "dataset": "shareloc_tom22", "registry": str(registry),
        "downloads": str(tmp_path / "data"),
    }}).source  # fmt: skip
    target = Path(source.downloaded[0])
    target.parent.mkdir(parents=True)
    target.write_bytes(zipped({"s1/data.smlm": table}))
    with pytest.raises(PhantomscopeError, match="no column for uncertainty") as caught:
        acquire(source, place.set)
    assert caught.value.where.endswith("zenodo-5512636.zip/s1/data.smlm")
    entry["layout"]["axes"] = "YX"
    registry.write_text(yaml.safe_dump({"shareloc_tom22": entry}))
    with pytest.raises(PhantomscopeError, match="`axes` is of images"):
        make_config({"source": source.model_dump()})


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not here")
def test_real_tables_become_images(place: Place) -> None:
    images = place.acquire(REAL, limit=1, max_precision_nm=30)
    (name,) = images.ids
    row = images.row(name)
    assert name == "01_storm"
    assert row["table_rows"] == 29995
    assert row["localisations"] + row["filtered"] == 29995
    assert images.image(name).sum() == pytest.approx(row["localisations"], rel=1e-3)
