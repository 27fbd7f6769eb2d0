"""Sets of time series and volumes, from miniatures in their publishers' layout."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import ctc_archives as miniature
from tests.server import Server

from phantomscope.acquire.source import acquire, fetch
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet

FRAMES = 4


def pairs(seed: int, shape: tuple[int, ...]) -> list[miniature.Pair]:
    return [miniature.nuclei(seed + t, shape, 6, 6.0) for t in range(FRAMES)]


@pytest.fixture(scope="module")
def images() -> dict[str, miniature.Series]:
    flat, deep = (32, 40), (6, 24, 32)
    sets = {"ctc_gowt1": flat, "ctc_hela": flat, "ctc_ce": deep, "ctc_tric": deep}
    made: dict[str, miniature.Series] = {
        name: {"01": pairs(0, shape), "02": pairs(100, shape)}
        for name, shape in sets.items()
    }
    plants = {f"plant{n}": [miniature.membranes(n, deep, 9)] for n in (1, 13, 15)}
    return {**made, miniature.MERISTEM: plants}


@pytest.fixture(scope="module")
def archives(
    images: dict[str, miniature.Series], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    miniature.write_archives(folder, images)
    return folder


class Place:
    """A folder that gets the archives from another one, as they are or edited."""

    def __init__(self, folder: Path, archives: Path) -> None:
        self.folder, self.archives = folder, archives
        self.mirror = archives
        self.registry = miniature.write_registry(
            folder, "https://example.invalid", miniature.ARCHIVES
        )

    def source(self, name: str, **options: Any) -> Source:
        return Source(
            kind="dataset", dataset=name, registry=str(self.registry),
            downloads=str(self.folder / "data"), mirror=str(self.mirror), **options,
        )  # fmt: skip

    def get(self, name: str, **options: Any) -> ImageSet:
        source = self.source(name, **options)
        for path in map(Path, source.downloaded):
            fetch(source, path)
        acquire(source, self.folder / "set", [Path(p) for p in source.downloaded])
        images = ImageSet.open(self.folder / "set")
        images.verify()
        return images

    def failure(self, name: str, **options: Any) -> str:
        with pytest.raises(PhantomscopeError) as caught:
            self.get(name, **options)
        assert not (self.folder / "set").exists()
        assert caught.value.fix
        return str(caught.value)

    def edit(self, name: str, *, drop: str = " ", **add: bytes) -> None:
        """Serve an archive without some members, and with others; __ stands for /."""
        self.mirror = self.folder / "mirror"
        self.mirror.mkdir(exist_ok=True)
        path = miniature.archive_name(name)
        with zipfile.ZipFile(self.archives / path) as archive:
            files = {
                info.filename: archive.read(info)
                for info in archive.infolist()
                if drop not in info.filename and not info.is_dir()
            }
        root = next(iter(files)).split("/")[0]
        files |= {f"{root}/{k.replace('__', '/')}.tif": v for k, v in add.items()}
        (self.mirror / path).write_bytes(miniature.zipped(files))


@pytest.fixture
def place(tmp_path: Path, archives: Path) -> Place:
    return Place(tmp_path, archives)


def expected(images: dict[str, miniature.Series], name: str, sequence: str, t: int):
    return images[name][sequence][t]


# What works


@pytest.mark.parametrize(("name", "size"), [("ctc_gowt1", 0.24), ("ctc_hela", 0.645)])
def test_frames_of_sequences(
    name: str, size: float, place: Place, images: dict[str, miniature.Series]
) -> None:
    found = place.get(name)
    assert found.ids == [f"{s}-t{t:03}" for s in ("01", "02") for t in range(FRAMES)]
    assert list(found.table["group"]) == ["01"] * FRAMES + ["02"] * FRAMES
    assert list(found.table["frame"]) == [*range(FRAMES)] * 2
    assert set(found.table["truth"]) == {"silver"}
    for sequence in ("01", "02"):
        for t in range(FRAMES):
            image, labels = expected(images, name, sequence, t)
            identifier = f"{sequence}-t{t:03}"
            np.testing.assert_array_equal(found.image(identifier), image)
            np.testing.assert_array_equal(found.mask(identifier), labels)
            assert found.voxel_size(identifier) == (size, size)
            assert found.annotated_planes(identifier) is None
    assert "annotated_planes" not in found.table


def test_gold_is_of_a_few_frames(place: Place) -> None:
    found = place.get("ctc_gowt1", truth="gold")
    labelled = [identifier for identifier in found if found.has_mask(identifier)]
    assert labelled == ["01-t000", "01-t002", "02-t000", "02-t002"]
    assert found.info["labelled"] == 4
    assert list(found.table["truth"]) == ["gold", "", "gold", ""] * 2
    only = place.get("ctc_gowt1", truth="gold", labelled=True)
    assert only.ids == labelled


def test_single_planes_of_volumes(
    place: Place, images: dict[str, miniature.Series]
) -> None:
    found = place.get("ctc_ce", truth="gold")
    assert found.dims == 3
    image, labels = expected(images, "ctc_ce", "02", 2)
    planes = miniature.gold_planes(labels)
    np.testing.assert_array_equal(found.image("02-t002"), image)
    assert found.annotated_planes("02-t002") == planes
    mask = found.mask("02-t002")
    np.testing.assert_array_equal(mask[planes], labels[planes])
    assert not np.delete(mask, planes, axis=0).any()
    assert labels.any(axis=(1, 2)).sum() > len(planes)
    assert found.voxel_size("02-t002") == (1.0, 0.09, 0.09)
    with found.planes("02-t002") as reader:
        np.testing.assert_array_equal(reader.read(1, 3), image[1:3])


def test_silver_is_of_whole_volumes(
    place: Place, images: dict[str, miniature.Series]
) -> None:
    found = place.get("ctc_ce", pixel_size_um=0.5)
    labels = expected(images, "ctc_ce", "01", 1)[1]
    np.testing.assert_array_equal(found.mask("01-t001"), labels)
    assert found.annotated_planes("01-t001") is None
    assert found.voxel_size("01-t001") == (0.5, 0.5, 0.5)


def test_meristems(place: Place, images: dict[str, miniature.Series]) -> None:
    found = place.get("ath_meristem")
    assert found.ids == ["0hrs_plant1", "0hrs_plant13", "0hrs_plant15"]
    assert list(found.table["group"]) == ["plant1", "plant13", "plant15"]
    image, labels = images["ath_meristem"]["plant13"][0]
    np.testing.assert_array_equal(found.image("0hrs_plant13"), image)
    # What is outside of the plant has the label 1 in the archive, cells the next ones.
    mask = found.mask("0hrs_plant13")
    np.testing.assert_array_equal(mask > 0, labels > 0)
    np.testing.assert_array_equal(mask[labels > 0], labels[labels > 0] + 1)


@pytest.mark.parametrize(
    ("frames", "left"),
    [
        ({"first": 1}, [1, 2, 3]),
        ({"last": 1}, [0, 1]),
        ({"every": 2}, [0, 2]),
        ({"first": 1, "every": 2}, [1, 3]),
        ({"only": [3, 0]}, [0, 3]),
        ({"limit": 2}, [0, 3]),
        ({"first": 1, "limit": 1}, [1]),
    ],
)
def test_some_frames(frames: dict[str, Any], left: list[int], place: Place) -> None:
    for download in ("whole", "members"):
        found = place.get("ctc_hela", frames=frames, download=download)
        assert list(found.table["frame"]) == left * 2


# Members out of a huge archive


def test_only_what_is_used_is_fetched(
    place: Place, archives: Path, server: Server, images: dict[str, miniature.Series]
) -> None:
    name = "Fluo-N3DL-TRIC.zip"
    whole = (archives / name).read_bytes()
    place.registry = miniature.write_registry(
        place.folder, server.url, miniature.ARCHIVES
    )
    place.mirror = Path("none")
    server.add(name, whole)
    options = {"mirror": None, "frames": {"only": [2]}}
    source = place.source("ctc_tric").model_copy(update={"mirror": None})
    source = Source.model_validate(source.model_dump() | options)
    (target,) = map(Path, source.downloaded)
    assert target.name.startswith("Fluo-N3DL-TRIC.part-")
    fetch(source, target)
    with zipfile.ZipFile(target) as small:
        names = small.namelist()
        assert names[0] == "Fluo-N3DL-TRIC/01/t002.tif"
        assert all("t002" in n or "man_seg_002_" in n for n in names)
        assert len(names) == 2 * (1 + miniature.GOLD_PLANES)
        with zipfile.ZipFile(io.BytesIO(whole)) as large:
            assert all(small.read(n) == large.read(n) for n in names)
    # First the size, then the list of members, then one request for each of them.
    assert len(server.requests) == 2 + len(names)
    acquire(source, place.folder / "set", [target])
    found = ImageSet.open(place.folder / "set")
    assert found.ids == ["01-t002", "02-t002"]
    image, labels = expected(images, "ctc_tric", "01", 2)
    np.testing.assert_array_equal(found.image("01-t002"), image)
    assert found.annotated_planes("01-t002") == miniature.gold_planes(labels)
    assert found.voxel_size("01-t002") is None
    fetch(source, target)
    assert len(server.requests) == 2 + len(names)


def test_other_choices_are_other_files(place: Place) -> None:
    def name(**options: Any) -> str:
        return Path(place.source("ctc_tric", **options).downloaded[0]).name

    names = {
        name(), name(frames={"every": 2}), name(labelled=True), name(limit=3),
        name(download="whole"),
    }  # fmt: skip
    assert len(names) == 5
    assert name(download="whole") == "Fluo-N3DL-TRIC.zip"
    assert name(group=r"/(\d\d)/") == name(pixel_size_um=2.0) == name()


def test_a_download_knows_what_it_depends_on(place: Place) -> None:
    def keys(name: str, **options: Any) -> set[str]:
        found = place.source(name, **options).download_keys
        return {key.removeprefix("source.") for key in found}

    always = {"kind", "dataset", "registry", "mirror"}
    chosen = {"truth", "labelled", "frames", "limit"}
    # Another choice of frames must not fetch a whole file again.
    assert keys("ctc_hela", frames={"every": 2}) == always
    assert keys("ctc_hela", download="members") == always | chosen | {"download"}
    assert keys("ctc_tric") == always | chosen
    assert keys("ctc_tric", download="whole") == always | {"download"}
    for name, options in (("ctc_tric", {"labelled": True}), ("ctc_hela", {})):
        source = place.source(name, **options)
        part = source.model_dump(include=keys(name, **options))
        alone = Source.model_validate({**part, "downloads": source.downloads})
        assert alone.downloaded == source.downloaded


def test_example_archives(tmp_path: Path) -> None:
    paths = miniature.write_archives(tmp_path / "www", miniature.examples(frames=1))
    assert list(paths) == list(miniature.NAMES)
    with miniature.serve(tmp_path / "www", miniature.ARCHIVES) as registry:
        source = Source(
            kind="dataset", dataset="ctc_tric", registry=str(registry),
            downloads=str(tmp_path / "data"), frames={"last": 0},
        )  # fmt: skip
        fetch(source, target := Path(source.downloaded[0]))
    acquire(source, tmp_path / "set", [target])
    assert ImageSet.open(tmp_path / "set").ids == ["01-t000", "02-t000"]


# What is wrong with an archive


def test_a_part_of_another_config(place: Place) -> None:
    source = place.source("ctc_tric", frames={"every": 2})
    with pytest.raises(PhantomscopeError, match=r"its files are Fluo-N3DL-TRIC\.part-"):
        fetch(source, place.folder / "data/ctc_tric/Fluo-N3DL-TRIC.zip")


@pytest.mark.parametrize("download", ["whole", "members"])
def test_missing_labels(download: str, place: Place) -> None:
    place.edit("ctc_gowt1", drop="/SEG/")
    text = place.failure("ctc_gowt1", download=download)
    assert "no member is like `Fluo-N2DH-GOWT1/{group}_ST/SEG/man_seg{frame}" in text


@pytest.mark.parametrize("download", ["whole", "members"])
def test_a_gap_between_frames(download: str, place: Place) -> None:
    place.edit("ctc_ce", drop="/t001.tif")
    text = place.failure("ctc_ce", download=download)
    assert "of the series '01' 1 frames are missing, the first is 1" in text
    assert "0 to 3" in text
    assert "layout.gaps" in text


def test_a_label_without_its_frame(place: Place) -> None:
    place.edit("ctc_gowt1", drop="01/t003.tif")
    text = place.failure("ctc_gowt1")
    assert "01_ST/SEG/man_seg003.tif is the label of a frame that is not there" in text


def test_a_label_of_another_shape(place: Place) -> None:
    wrong = miniature.tiff(np.ones((9, 8), np.uint16))
    place.edit("ctc_ce", **{"01_GT__SEG__man_seg_000_001": wrong})
    text = place.failure("ctc_ce", truth="gold")
    assert "the labels are (9, 8), the image is (24, 32)" in text
    assert "man_seg_000_001.tif" in text


def test_a_plane_outside_of_its_volume(place: Place) -> None:
    plane = miniature.tiff(np.ones((24, 32), np.uint16))
    place.edit("ctc_ce", **{"01_GT__SEG__man_seg_002_006": plane})
    text = place.failure("ctc_ce", truth="gold")
    assert "the label of plane 6, but its volume has planes 0 to 5" in text
    assert "man_seg_002_006.tif" in text


def test_two_files_of_one_frame(place: Place) -> None:
    place.edit("ctc_ce", **{"01__t0002": b"", "01_ST__SEG__x": b""})
    text = place.failure("ctc_ce")
    assert "01/t0002.tif and Fluo-N3DH-CE/01/t002.tif are of the same image" in text


def test_half_an_archive(place: Place) -> None:
    place.edit("ctc_hela")
    path = place.mirror / "Fluo-N2DL-HeLa.zip"
    path.write_bytes(path.read_bytes()[:-300])
    assert "damaged or cut short" in place.failure("ctc_hela")
    text = place.failure("ctc_hela", download="members")
    assert "this archive is damaged or no zip" in text


def test_frames_that_are_not_there(place: Place) -> None:
    text = place.failure("ctc_hela", frames={"only": [1, 9]})
    assert "the series '01' has no frame 9: there are 0-3" in text
    text = place.failure("ctc_hela", frames={"first": 7})
    assert "no image is left of the 8 in Fluo-N2DL-HeLa.zip" in text
    assert "there are 01: 0-3; 02: 0-3" in text


def test_no_frame_with_labels(place: Place) -> None:
    text = place.failure("ctc_hela", truth="gold", frames={"only": [1, 3]})
    assert "none of the images that are left has labels" in text
    assert "choose other frames with labels: there are 01: 0, 2; 02: 0, 2" in text


# Options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ctc_tric", {"truth": "silver"}, "no `truth: silver` in this data set, but"),
        ("ath_meristem", {"truth": "gold"}, "but labels without a name"),
        ("ath_meristem", {"frames": {"every": 2}}, "has no time series; use `limit`"),
        ("ctc_hela", {"pixel_size_um": [1, 1, 1]}, "is of volumes"),
        ("ctc_hela", {"frames": {"only": [1], "every": 2}}, "`only` stands alone"),
        ("ctc_hela", {"frames": {"first": 2, "last": 1}}, "is before `first: 2`"),
    ],
)
def test_options_that_do_not_fit(
    name: str, options: dict[str, Any], message: str, place: Place
) -> None:
    with pytest.raises(ValueError, match=message):
        place.source(name, **options)
