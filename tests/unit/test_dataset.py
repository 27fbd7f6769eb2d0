"""Public data sets: the registry, and image sets from miniatures of real archives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.archives import (
    ID,
    SHIPPED,
    Place,
    bbbc038,
    dsb2018,
    nuclei,
    png,
    rgba,
    tiff,
    zipped,
)
from tests.server import Server, cut

from phantomscope.acquire.dataset import (
    acquire_dataset,
    is_fluorescence,
    number_masks,
    read_mask,
)
from phantomscope.acquire.samples import find_samples
from phantomscope.acquire.source import fetch
from phantomscope.config.data import Source
from phantomscope.config.datasets import load_registry
from phantomscope.config.layout import Layout
from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import data as stages

# From the server to the image set


def test_bbbc038_from_its_server_to_an_image_set(server: Server, place: Place) -> None:
    archive = zipped(bbbc038())
    url = server.add("bbbc/BBBC038/stage1_train.zip", archive, [cut(2000)])
    place.register("bbbc038", url)
    config = make_config({"source": place.source("bbbc038").model_dump()})
    target = Path(config.source.downloaded[0])
    assert target == place.downloads / "bbbc038" / "stage1_train.zip"
    stages.download(config, target=target)
    assert server.requests[-1].range == "bytes=2000-"
    stages.acquire(config, images=place.folder / "set", files=[target])

    images = ImageSet.open(place.folder / "set")
    assert images.ids == [ID.format(number) for number in range(3)]
    for number, identifier in enumerate(images.ids):
        image, masks = nuclei(number, (64, 64) if number == 2 else (40, 48))
        np.testing.assert_array_equal(images.image(identifier), image)
        assert images.image(identifier).dtype == np.uint8
        # Files in the order of their names: a... is the second mask.
        expected = np.where(masks[1], 1, 2 * masks[0])
        np.testing.assert_array_equal(images.mask(identifier), expected)
        assert images.mask(identifier).dtype == np.uint16
    assert list(images.table["stratum"]) == ["40x48", "40x48", "64x64"]
    assert "published_split" not in images.table
    images.verify()


def test_what_is_known_about_the_set_goes_with_it(place: Place) -> None:
    place.put("bbbc038", bbbc038())
    images = place.acquire("bbbc038", pixel_size_um=0.5)
    info, entry = images.info, load_registry(str(SHIPPED))["bbbc038"]
    assert (info["name"], info["title"]) == ("bbbc038", entry.title)
    assert (info["licence"], info["citation"]) == ("CC0", entry.citation)
    assert info["origin"] == "https://bbbc.broadinstitute.org/BBBC038"
    (file,) = info["downloads"]
    assert file["url"] == "https://example.invalid/x.zip"
    assert len(file["sha256"]) == 64
    assert (info["files"], info["labelled"], info["left_out"]) == (3, 3, 2)
    assert str(place.folder) not in str(info)
    assert set(images.table["pixel_size"]) == {0.5}


def test_dsb2018_keeps_the_published_split(place: Place) -> None:
    place.put("dsb2018_stardist", dsb2018())
    images = place.acquire("dsb2018_stardist")
    splits = dict(zip(images.ids, images.table["published_split"], strict=True))
    assert splits == {"a1": "test", "a1-2": "train", "a9": "train", "a10": "train"}
    assert {images.image(identifier).dtype for identifier in images} == {
        np.dtype(np.uint16)
    }
    # Instance labels keep their numbers.
    assert set(np.unique(images.mask("a9"))) == {0, 3, 300}


def test_a_mirror_is_any_folder_of_downloads(place: Place) -> None:
    place.put("bbbc038", bbbc038())
    mirror = place.folder / "mirror"
    shutil.move(place.downloads / "bbbc038", mirror)
    source = place.source("bbbc038", mirror=f"{mirror}/")
    fetch(source, Path(source.downloaded[0]))
    assert len(place.acquire("bbbc038")) == 3
    # The hash is pinned now: the archive may not change unnoticed.
    archive = Path(source.downloaded[0])
    archive.write_bytes(zipped(bbbc038() | {"new": b""}))
    shutil.rmtree(place.folder / "set")
    assert "stage1_train.zip.sha256" in place.failure("bbbc038")


def test_a_mirror_on_the_web(server: Server, place: Place) -> None:
    server.add("mirror/stage1_train.zip", zipped(bbbc038()))
    place.register("bbbc038", "https://example.invalid/elsewhere/x.zip")
    source = place.source("bbbc038", mirror=f"{server.url}/mirror")
    fetch(source, Path(source.downloaded[0]))
    assert len(place.acquire("bbbc038")) == 3


def test_group_and_limit(place: Place) -> None:
    place.put("dsb2018_stardist", dsb2018())
    images = place.acquire("dsb2018_stardist", group=r"a(\d)", limit=3)
    assert list(images.table["group"]) == ["1", "1", "9"]
    assert images.ids == ["a1", "a10", "a9"]


def test_several_archives_are_told_apart_by_name(place: Place) -> None:
    entry = yaml.safe_load(SHIPPED.read_text())["dsb2018_stardist"]
    entry["layout"] = {"images": "images.zip/{id}.tif", "labels": "masks.zip/{id}.tif"}
    url = "https://example.invalid/x.zip"
    entry["files"] = [{"name": n, "url": url} for n in ("images.zip", "masks.zip")]
    place.registry.write_text(yaml.safe_dump({"two": entry}))
    image, masks = nuclei(0)
    paths = [Path(path) for path in place.source("two").downloaded]
    for path, array in zip(paths, (image, masks[0].astype(np.uint8)), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zipped({"1.tif": tiff(array)}))
    acquire_dataset(place.source("two"), paths[::-1], place.folder / "set")
    images = ImageSet.open(place.folder / "set")
    np.testing.assert_array_equal(images.image("1"), image)
    np.testing.assert_array_equal(images.mask("1"), masks[0])


def test_a_killed_process_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("bbbc038", bbbc038())
    add, calls = ImageSetWriter.add, []

    def dying(self: Any, identifier: str, *arguments: Any, **options: Any) -> None:
        calls.append(identifier)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(self, identifier, *arguments, **options)

    monkeypatch.setattr(ImageSetWriter, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        place.acquire("bbbc038")
    assert len(place.acquire("bbbc038")) == 3
    assert calls == [ID.format(number) for number in (0, 1, 1, 2)]


# What is wrong with an archive


def test_files_that_were_not_downloaded(place: Place) -> None:
    place.register("bbbc038", "https://example.invalid/x.zip")
    text = place.failure("bbbc038")
    assert "stage1_train.zip" in text
    assert "phantomscope download" in text


def test_a_file_that_the_set_does_not_have(place: Place) -> None:
    place.register("bbbc038", "https://example.invalid/x.zip")
    with pytest.raises(PhantomscopeError, match=r"its files are stage1_train\.zip"):
        fetch(place.source("bbbc038"), place.downloads / "other.zip")
    with pytest.raises(PhantomscopeError, match="has nothing to download"):
        fetch(Source(), place.downloads / "other.zip")


def test_another_layout(place: Place) -> None:
    place.put("bbbc038", dsb2018())
    text = place.failure("bbbc038")
    assert "no member is like `{id}/images/*.png`; there is dsb2018/README.md" in text
    assert "layout.images" in text
    files = {name: c for name, c in bbbc038().items() if "masks" not in name}
    place.put("bbbc038", files)
    assert "no member is like `{id}/masks/*.png`" in place.failure("bbbc038")


def test_two_images_of_one_id(place: Place) -> None:
    files = bbbc038()
    name = ID.format(1)
    files[f"{name}/images/other.png"] = files[f"{name}/images/{name}.png"]
    place.put("bbbc038", files)
    assert "are of the same image" in place.failure("bbbc038")


def test_nothing_is_kept(place: Place) -> None:
    files = {n: c for n, c in bbbc038().items() if n.startswith(ID.format(8))}
    place.put("bbbc038", files)
    assert "none of 1 images is kept by `keep: fluorescence`" in place.failure(
        "bbbc038"
    )


def test_all_bad_images_are_told_at_once(place: Place) -> None:
    files = bbbc038()
    one, two = (ID.format(number) for number in (0, 1))
    files[f"{one}/images/{one}.png"] = b"\x89PNG broken"
    files[f"{two}/masks/{'b' * 64}.png"] = png(np.zeros((9, 9), np.uint8))
    place.put("bbbc038", files)
    text = place.failure("bbbc038")
    assert "2 problems, 2 of 3 images cannot be used" in text
    assert f"- {one}.png: cannot be read as an image" in text
    assert "the mask is (9, 9), the image is (40, 48)" in text
    assert "adapt `layout` of bbbc038 in the registry" in text


def test_types_are_not_mixed_unless_the_layout_widens_them(place: Place) -> None:
    place.put("dsb2018_stardist", dsb2018(), dtype=None)
    text = place.failure("dsb2018_stardist")
    assert "the images are of different types" in text
    place.put("dsb2018_stardist", dsb2018(), dtype="uint8")
    assert "uint16 does not fit into uint8" in place.failure("dsb2018_stardist")


def test_a_damaged_archive(place: Place) -> None:
    place.put("bbbc038", bbbc038())
    archive = Path(place.source("bbbc038").downloaded[0])
    content = bytearray(archive.read_bytes())
    content[content.index(b"images/", 200) + 120] ^= 0xFF
    archive.write_bytes(content)
    assert "damaged or cut short" in place.failure("bbbc038")


# Parts


def test_samples_are_found_by_pattern() -> None:
    names = [
        "x/t1.tif",
        "x/t10.tif",
        "x/t9.tif",
        "x/.t2.tif",
        "y/t9_m.tif",
        "x/a/t.tif",
    ]
    layout = Layout(images="x/{id}.tif", labels="y/{id}_m.tif")
    samples = find_samples(names, layout, Path("a.zip"))
    assert [sample.stem for sample in samples] == ["t1", "t9", "t10"]
    assert [sample.labels for sample in samples] == [(), ("y/t9_m.tif",), ()]


def test_fluorescence_is_grey_on_dark() -> None:
    image = nuclei(0)[0]
    assert is_fluorescence(image)
    assert is_fluorescence(rgba(image, image, image))
    assert is_fluorescence(rgba(image))
    assert is_fluorescence(image // 16)
    assert not is_fluorescence(255 - image)
    assert not is_fluorescence(rgba(image, image, image // 2))


@pytest.mark.parametrize("channels", [0, 2, 3, 4])
def test_a_mask_may_have_colours_and_opacity(channels: int, tmp_path: Path) -> None:
    mask = nuclei(0)[1][0]
    grey = mask * np.uint8(255)
    array = grey
    if channels:
        array = np.stack([grey] * channels, axis=-1)
    if channels in (2, 4):
        array[..., -1] = 255
    path = tmp_path / "mask.png"
    path.write_bytes(png(array))
    np.testing.assert_array_equal(read_mask(path, mask.shape), mask)


def test_the_earlier_mask_keeps_shared_pixels() -> None:
    masks = nuclei(0)[1]
    labels = number_masks(iter(masks), masks.shape[1:], 2)
    assert labels[16, 16] == 1
    assert (labels == 1).sum() == masks[0].sum()
    assert (labels == 2).sum() == (masks[1] & ~masks[0]).sum()
    assert number_masks(iter(()), (2, 2), 65536).dtype == np.uint32
