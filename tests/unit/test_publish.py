"""The published set: what is in it, that it is whole, and when it is refused."""

import base64
import json
import shutil
import subprocess
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
import zarr

from phantomscope.config.load import make_config
from phantomscope.config.publish import Creator
from phantomscope.errors import PhantomscopeError
from phantomscope.images.checksums import CHECKSUMS, hash_files, read_checksums
from phantomscope.images.files import read_array, read_json, write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.ome_zarr import LABELS
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.interrupt import StopRequestedError
from phantomscope.progress import Progress
from phantomscope.stages import publish as module
from phantomscope.stages.publish import publish
from phantomscope.tables.datasheet import diameters, summarise
from phantomscope.tables.licence import choose_licence, licence_note, read_terms
from phantomscope.tables.report import write_report

PEOPLE = ["Doe, Jane; Institute of Examples; 0000-0002-1825-0097", "Roe, Rick"]
SHAPES = {2: (48, 56), 3: (6, 48, 56)}


def experiment(root, dims, licence="CC BY 4.0"):
    """Real images, and a checked set whose pixels lie in a shard; 3 images."""
    rng = np.random.default_rng(dims)
    shape = SHAPES[dims]
    with ImageSetWriter(root / "prepared", {
        "name": "fake", "licence": licence,
        "citation": "Nobody, Nothing, 2026, doi 10.1234/abc.5",
    }) as writer:  # fmt: skip
        for n, split in enumerate(("train", "test")):
            writer.add(f"r{n}", rng.integers(0, 99, shape).astype(np.uint16),
                       split=split, group=f"g{n}", pixel_size=0.5)  # fmt: skip
    options = {"sampler": "dpmpp_2m", "steps": 10}
    info = {"stage": "synthesise", "seed": 0, "t_start": 300, "model": "f" * 64,
            "options": options, "sketches": ["x"]}  # fmt: skip
    with ImageSetWriter(root / "synthetic/shard-000", info) as writer:
        for n in range(3):
            labels = np.zeros(shape, np.uint16)
            for k in range(n + 1):
                labels[..., 5 : 9 + n, 10 * k + 1 : 10 * k + 6] = 7 * k + 2
            raw = rng.integers(0, 99, shape) + 300 * (labels > 0)
            writer.add(f"sketch-{n}", raw.astype(np.uint16), labels, type="all",
                       split="train", limits="r0")  # fmt: skip
    made = ImageSet.open(root / "synthetic/shard-000")
    rows = [{**made.row(i), "image": f"../synthetic/shard-000/images/{i}.ome.tif",
             "mask": f"../synthetic/shard-000/labels/{i}.ome.tif", "objects": 99,
             "agreement": 0.9} for i in made.ids]  # fmt: skip
    write_manifest(root / "checked", rows, {"stage": "check"})
    write_json(root / "checked/summary.json", {
        "images": 4, "kept": 3, "rejected": 1, "objects": 6, "erased_labels": 2,
        "reasons": {"disagreement": 1}})  # fmt: skip
    (root / "sketch.yaml").write_text("types: [{name: all, edge: 1.5}]\n")
    return made


def config(**options):
    options = {"formats": ["ome_zarr", "tiff"], "creators": PEOPLE} | options
    return make_config({"experiment": "e", "publish": options})


def run(root, out="published", **options):
    publish(config(**options), prepared=root / "prepared", checked=root / "checked",
            published=root / out, sketch=root / "sketch.yaml")  # fmt: skip
    return root / out


@pytest.fixture(scope="module", params=[2, 3])
def done(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("publish")
    made = experiment(root, request.param)
    return root, made, run(root)


def test_both_formats_hold_exactly_the_source(done):
    _, made, folder = done
    for name in made.ids:
        image, labels = made.image(name), made.mask(name)
        group = zarr.open_group(folder / f"ome_zarr/{name}.ome.zarr", mode="r")
        np.testing.assert_array_equal(group["0"][:], image)
        np.testing.assert_array_equal(group[f"labels/{LABELS}/0"][:], labels)
        for kind, array in (("images", image), ("labels", labels)):
            path = folder / f"tiff/{kind}/{name}.ome.tif"
            np.testing.assert_array_equal(read_array(path), array)
            with tifffile.TiffFile(path) as file:
                assert 'PhysicalSizeX="0.5"' in (file.ome_metadata or "")


def test_it_is_an_image_set_with_the_true_numbers_of_objects(done):
    _, _, folder = done
    images = ImageSet.open(folder)
    images.verify()
    assert list(images.table["objects"]) == [1, 2, 3]
    assert list(images.table["agreement"]) == [0.9] * 3
    assert list(images.table["pixel_size"]) == [0.5] * 3
    assert images.info["licence"] == "CC-BY-4.0"
    sizes = [
        sum(f.stat().st_size for part in (row["ome_zarr"], row["image"], row["mask"])
            for f in [folder / part, *(folder / part).rglob("*")] if f.is_file())
        for _, row in images.table.iterrows()
    ]  # fmt: skip
    assert list(images.table["bytes"]) == sizes


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_sha256sum_accepts_the_list_and_it_names_every_file(done):
    _, _, folder = done
    told = subprocess.run(["sha256sum", "--strict", "--quiet", "-c", CHECKSUMS],
                          cwd=folder, capture_output=True, text=True)  # fmt: skip
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(read_checksums(folder / CHECKSUMS)) == files - {CHECKSUMS}


def test_the_datasheet_counts_and_says_how(done):
    root, made, folder = done
    sheet = read_json(folder / "datasheet.json")
    dims = made.dims
    depth = SHAPES[dims][0] if dims == 3 else 1
    sizes = sorted(5 * (4 + n) * depth for n in range(3) for _ in range(n + 1))
    facts = sheet["composition"]
    assert (facts["images"], facts["objects"], facts["dims"]) == (3, 6, dims)
    assert facts["size_voxels"]["mean"] == pytest.approx(np.mean(sizes))
    assert facts["size_voxels"]["q00"] == sizes[0]
    assert facts["size_voxels"]["q100"] == sizes[-1]
    assert facts["voxel_size_um"] == [0.5] * dims
    assert facts["diameter_um"]
    (note,) = sheet["generation"]["made_by"]
    assert (note["model"], note["t_start"], note["seed"]) == ("f" * 64, 300, 0)
    assert "sketches" not in note
    assert sheet["generation"]["sketch"] == {"types": [{"name": "all", "edge": 1.5}]}
    assert sheet["checks"]["rejected"] == 1
    text = (folder / "datasheet.md").read_text()
    for heading in ("Motivation", "Composition", "Collection", "Preprocessing", "Uses",
                    "Distribution", "Maintenance"):  # fmt: skip
        assert f"\n## {heading}" in text
    for part in ("`" + "f" * 64 + "`", "300 of 1000", "Doe, Jane", "CC-BY-4.0",
                 "1 for disagreement", "25% of the images were rejected", "edge: 1.5",
                 "Nobody, Nothing, 2026", "not measured"):  # fmt: skip
        assert part in text, part
    assert str(root) not in text + json.dumps(sheet)
    # Rows of a table stand without empty lines between them.
    assert "\n| size of an object |" in text
    assert "|\n\n| size" not in text


def test_the_deposit_is_what_a_repository_asks_for(done):
    about = read_json(done[2] / "dataset_description.json")
    assert about["upload_type"] == "dataset"
    assert about["access_right"] == "open"
    assert about["license"] == "CC-BY-4.0"
    assert about["creators"] == [
        {"name": "Doe, Jane", "affiliation": "Institute of Examples",
         "orcid": "0000-0002-1825-0097"},
        {"name": "Roe, Rick"},
    ]  # fmt: skip
    related = {r["identifier"]: r["relation"] for r in about["related_identifiers"]}
    assert related["10.1234/abc.5"] == "isDerivedFrom"
    assert related["10.1371/journal.pcbi.1011890"] == "cites"
    assert about["description"].startswith("<p>")


def test_the_report_shows_it(done, tmp_path):
    root, made, folder = done
    for name in ("prepared", "published"):
        (tmp_path / name).symlink_to(root / name)
    write_report(tmp_path, config(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert '<h2 id="published">The data set, ready to publish' in text
    assert "OME-Zarr 0.4, OME-TIFF" in text
    assert "1 of 4 were rejected" in text
    assert base64.b64encode((folder / "preview.png").read_bytes()).decode() in text
    assert ("beside it YZ" in text) == (made.dims == 3)


def test_stopped_and_taken_up_it_does_nothing_twice(tmp_path, monkeypatch):
    experiment(tmp_path, 2)
    seen = []
    original = module._export_image

    def noted(export, identifier):
        seen.append(identifier)
        return original(export, identifier)

    def stop(self, steps=1, note=""):
        raise StopRequestedError("stopped")

    monkeypatch.setattr(module, "_export_image", noted)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop)
        with pytest.raises(StopRequestedError):
            run(tmp_path)
    assert not (tmp_path / "published").exists()
    # A file that the power failure took, and one that was being written.
    partial = tmp_path / ".published.partial"
    (partial / "ome_zarr/.sketch-1.ome.zarr.partial/0").mkdir(parents=True)
    folder = run(tmp_path)
    assert seen == ["sketch-0", "sketch-1", "sketch-2"]
    assert not list(folder.rglob(".*.partial"))
    assert not partial.exists()
    assert len(read_checksums(folder / CHECKSUMS)) == sum(
        path.is_file() for path in folder.rglob("*")
    ) - 1  # fmt: skip


def test_damaged_or_other_leftovers_are_made_anew(tmp_path, monkeypatch):
    experiment(tmp_path, 2)
    partial = tmp_path / ".published.partial"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_document", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    tiff = partial / "tiff/images/sketch-1.ome.tif"
    tiff.write_bytes(tiff.read_bytes()[:-1])
    stray = partial / "ome_zarr/stray.ome.zarr"
    stray.mkdir()
    seen = []
    original = module._export_image
    monkeypatch.setattr(
        module, "_export_image", lambda e, i: seen.append(i) or original(e, i)
    )
    with monkeypatch.context() as patch:
        patch.setattr(module, "_document", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    assert seen == ["sketch-1"]
    # Other options are another set: nothing of the old one is left.
    folder = run(tmp_path, formats=["tiff"], images=2)
    assert not (folder / "ome_zarr").exists()
    assert len(ImageSet.open(folder)) == 2
    assert "at most 2 images" in (folder / "datasheet.md").read_text()


def test_one_format_alone(tmp_path):
    experiment(tmp_path, 3)
    folder = run(tmp_path, formats=["ome_zarr"], ngff="0.5", levels=1)
    assert not (folder / "tiff").exists()
    table = pd.read_csv(folder / "manifest.csv")
    assert list(table["image"]) == list(table["ome_zarr"])
    assert (folder / table["ome_zarr"][0] / "zarr.json").is_file()
    assert "OME-Zarr 0.5 (Zarr 3)" in (folder / "datasheet.md").read_text()
    # It replaces what it made, and nothing else.
    run(tmp_path, formats=["tiff"])
    assert (folder / "tiff").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.tif").touch()
    with pytest.raises(PhantomscopeError, match="not of this program"):
        run(tmp_path, "mine")
    assert (tmp_path / "mine/photo.tif").exists()


UNCLEAR = ("", "not stated (images of the user)", "CC BY-NC-ND 4.0", "no derivatives")


@pytest.mark.parametrize("licence", UNCLEAR)
def test_no_licence_no_publication_unless_told(tmp_path, licence):
    experiment(tmp_path, 2, licence)
    with pytest.raises(PhantomscopeError, match="licence") as error:
        run(tmp_path)
    assert error.value.where == "publish.licence"
    assert not list(tmp_path.glob("*published*"))
    folder = run(tmp_path, licence="CC-BY-4.0", formats=["tiff"])
    assert "Nobody checked" in (folder / "datasheet.md").read_text()


def test_other_bad_inputs_are_one_clear_error(tmp_path):
    made = experiment(tmp_path, 2)
    with pytest.raises(PhantomscopeError, match="nothing was asked"):
        run(tmp_path, formats=[])
    rows = [{**made.row(i), "mask": ""} for i in made.ids]
    write_manifest(tmp_path / "checked", rows, {})
    with pytest.raises(PhantomscopeError, match="mask of each image"):
        run(tmp_path)
    write_manifest(tmp_path / "checked", [], {})
    with pytest.raises(PhantomscopeError, match="no image to publish"):
        run(tmp_path)


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_packed_archives_hold_the_folders_and_are_reproducible(
    tmp_path, monkeypatch, ngff
):
    experiment(tmp_path, 2)
    folder = run(tmp_path, formats=["ome_zarr"], pack=True, ngff=ngff)
    with zipfile.ZipFile(folder / "ome_zarr.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    listed = {n: d for n, d in read_checksums(folder / CHECKSUMS).items() if "/" in n}
    assert hash_files(tmp_path / "unpacked", "ome_zarr") == listed
    assert "ome_zarr.zip" in read_checksums(folder / CHECKSUMS)
    assert "`ome_zarr.zip`" in (folder / "datasheet.md").read_text()
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    again = run(tmp_path, "again", formats=["ome_zarr"], pack=True, ngff=ngff)
    for name in ("ome_zarr.zip", "manifest.csv", "datasheet.json", CHECKSUMS):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_sets_of_unknown_origin_say_so(tmp_path):
    experiment(tmp_path, 2)
    (tmp_path / "synthetic/shard-000/info.json").write_text("{}")
    (tmp_path / "checked/summary.json").unlink()
    publish(config(formats=["tiff"]), prepared=tmp_path / "prepared",
            checked=tmp_path / "checked", published=tmp_path / "out")  # fmt: skip
    text = (tmp_path / "out/datasheet.md").read_text()
    assert "Which model made the images was not recorded" in text
    assert "Nobody compared the images with their labels" in text
    with pytest.raises(PhantomscopeError, match="not the memorisation"):
        publish(config(formats=["tiff"]), prepared=tmp_path / "prepared",
                checked=tmp_path / "checked", published=tmp_path / "other",
                memorisation=tmp_path / "copies.csv")  # fmt: skip


def test_terms_of_licences():
    for text, spdx in (
        ("CC0 (as BBBC038, of which it is a part)", "CC0-1.0"),
        ("CC BY 4.0", "CC-BY-4.0"), ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
        ("Creative Commons (CC_BY-NC-SA) v4", "CC-BY-NC-SA-4.0"),
        ("distributed with StarDist under BSD-3-Clause", "BSD-3-Clause"),
        ("MIT License", "MIT"), ("public domain", "CC0-1.0"),
    ):  # fmt: skip
        assert read_terms(text).spdx == spdx, text
    assert read_terms("courtesy of MIT, Cambridge").verdict == "unknown"
    assert read_terms("no derivatives").verdict == "forbidden"
    assert choose_licence("nobody knows", "CC0-1.0") == "CC0-1.0"
    assert "Nobody checked" in licence_note("CC BY 4.0", "CC0-1.0", "CC0-1.0")
    assert "The same" in licence_note("CC BY 4.0", "CC-BY-4.0", "CC-BY-4.0")


def test_quantiles_of_counted_values_are_those_of_the_values():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 60, 500)
    numbers, counts = np.unique(values, return_counts=True)
    found = summarise(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    for level in (0, 5, 25, 50, 75, 95, 100):
        expected = np.percentile(values, level, method="inverted_cdf")
        assert found[f"q{level:02}"] == expected
    assert found["mean"] == pytest.approx(values.mean())
    assert summarise({}) == {"n": 0}
    ball = {"n": 1, "q50": 4 / 3 * np.pi * 5**3}
    assert diameters(ball, 3, 0.5**3) == {"q50": pytest.approx(5.0)}
    assert diameters({"q50": np.pi * 9}, 2, 1.0) == {"q50": pytest.approx(6.0)}


def test_options():
    assert Creator.parse(" Curie, Marie ; Sorbonne ") == (
        "Curie, Marie", "Sorbonne", "",
    )  # fmt: skip
    for wrong in ("", "a; b; 0000-0002-1825-0098", "a; b; c", "a; b; c; d"):
        with pytest.raises(PhantomscopeError, match=r"creator|ORCID"):
            config(creators=[wrong])
    with pytest.raises(PhantomscopeError, match="creators"):
        config(creators=[])
    with pytest.raises(PhantomscopeError, match="twice"):
        config(formats=["tiff", "tiff"])
    assert yaml.safe_load(yaml.safe_dump(config().model_dump(mode="json")))
