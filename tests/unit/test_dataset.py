"""Public data sets: the registry, and image sets from miniatures of real archives."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from tests.server import Server, cut

from phantomscope.acquire.dataset import (
    acquire_dataset,
    is_fluorescence,
    number_masks,
    read_mask,
)
from phantomscope.acquire.samples import find_samples
from phantomscope.acquire.source import fetch
from phantomscope.config import datasets
from phantomscope.config.data import Source
from phantomscope.config.datasets import load_registry
from phantomscope.config.layout import Layout
from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import data as stages

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config/datasets.yaml"
Array = NDArray[Any]
Files = dict[str, bytes]


def png(array: Array) -> bytes:
    return imageio.imwrite("<bytes>", array, extension=".png")


def tiff(array: Array) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


def zipped(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def nuclei(seed: int, shape: tuple[int, int] = (40, 48)) -> tuple[Array, Array]:
    """A dark image with two bright squares that overlap, and their masks (2, Y, X)."""
    masks = np.zeros((2, *shape), bool)
    masks[0, 5:20, 5:20] = masks[1, 15:30, 15:30] = True
    noise = np.random.default_rng(seed).integers(5, 15, shape)
    return (noise + 150 * masks.any(0)).astype(np.uint8), masks


def rgba(*channels: Array) -> Array:
    return np.stack([*channels, np.full_like(channels[0], 255)], axis=-1)


ID = "{:064x}"  # names are SHA-256 in the published set, too


def bbbc038() -> Files:
    """Build three fluorescence images, stained tissue and a bright field."""
    files: Files = {}
    for number, shape in enumerate([(40, 48), (40, 48), (64, 64)]):
        image, masks = nuclei(number, shape)
        name = ID.format(number)
        files[f"{name}/"] = b""
        files[f"{name}/images/"] = files[f"{name}/masks/"] = b""
        files[f"{name}/images/{name}.png"] = png(rgba(image, image, image))
        for letter, mask in zip("ba", masks, strict=True):
            files[f"{name}/masks/{letter * 64}.png"] = png(mask * np.uint8(255))
    image, masks = nuclei(7)
    for number, channels in ((8, (255 - image, image, image)), (9, [255 - image] * 3)):
        name = ID.format(number)
        files[f"{name}/images/{name}.png"] = png(rgba(*channels))
        files[f"{name}/masks/{'c' * 64}.png"] = png(masks[0] * np.uint8(255))
    return files


def dsb2018() -> Files:
    files: Files = {"dsb2018/README.md": b"about"}
    for split, names in (("train", ["a1", "a10", "a9"]), ("test", ["a1"])):
        for name in names:
            image, masks = nuclei(len(files))
            labels = masks[0] * np.uint16(3) + masks[1] * np.uint16(300) * ~masks[0]
            kind = np.uint8 if name == "a9" else np.uint16
            folder = f"dsb2018/{split}"
            files[f"{folder}/images/{name}.tif"] = tiff(image.astype(kind))
            files[f"{folder}/masks/{name}.tif"] = tiff(labels.astype(np.uint16))
    return files


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


class Place:
    """A folder with a registry of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "datasets.yaml"
        self.downloads = folder / "data"

    def register(self, name: str, url: str, **changes: Any) -> None:
        """Take a shipped entry over, with another address and no known hash."""
        entry = yaml.safe_load(SHIPPED.read_text())[name]
        entry["files"][0] |= {"url": url, "sha256": None}
        entry["layout"] |= changes
        self.registry.write_text(yaml.safe_dump({name: entry}))

    def source(self, name: str, **options: Any) -> Source:
        return Source(
            kind="dataset", dataset=name, registry=str(self.registry),
            downloads=str(self.downloads), **options,
        )  # fmt: skip

    def put(self, name: str, files: Files, **changes: Any) -> None:
        """Put an archive where downloads go."""
        self.register(name, "https://example.invalid/x.zip", **changes)
        path = Path(self.source(name).downloaded[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zipped(files))

    def acquire(self, name: str, **options: Any) -> ImageSet:
        acquire_dataset(self.source(name, **options), [], self.folder / "set")
        return ImageSet.open(self.folder / "set")

    def failure(self, name: str, **options: Any) -> str:
        with pytest.raises(PhantomscopeError) as caught:
            self.acquire(name, **options)
        assert not (self.folder / "set").exists()
        assert caught.value.fix
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


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


# The registry


def test_the_shipped_registry_is_whole() -> None:
    found = load_registry(str(SHIPPED))
    assert list(found) == [
        "bbbc038", "dsb2018_stardist", "ctc_ce", "ctc_tric", "ctc_gowt1", "ctc_hela",
        "ath_meristem", "bbbc050", "shareloc_tubulin_nocodazole", "shareloc_tubulin",
        "shareloc_tom22",
    ]  # fmt: skip
    for name in found:
        config = make_config({"source": {"kind": "dataset", "dataset": name}})
        assert config.source.of_tables == name.startswith("shareloc")
        assert config.has_labels != config.source.of_tables
        assert ("annotated" in config.arms) == config.has_labels


def test_a_set_without_labels(place: Place) -> None:
    place.register("bbbc038", "https://example.invalid/x.zip", labels=None)
    config = make_config({"source": place.source("bbbc038").model_dump()})
    assert not config.has_labels
    assert config.arms == ["synthetic", "sketch"]


def test_where_the_registry_is_looked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    assert datasets.find_registry() == SHIPPED
    place.register("bbbc038", "https://example.invalid/x.zip")
    (place.folder / "config").mkdir()
    shutil.copy(place.registry, "config/datasets.yaml")
    assert datasets.find_registry() == Path("config/datasets.yaml")
    assert list(load_registry()) == ["bbbc038"]
    assert datasets.find_registry("x.yaml") == Path("x.yaml")
    Path("config/datasets.yaml").unlink()
    monkeypatch.setattr(datasets, "CHECKOUT", place.folder / "none")
    with pytest.raises(PhantomscopeError, match="there is no registry"):
        load_registry()


def test_an_edited_registry_is_read_again(place: Place) -> None:
    place.register("bbbc038", "https://example.invalid/1.zip")
    before = load_registry(str(place.registry))
    place.register("bbbc038", "https://example.invalid/2.zip")
    after = load_registry(str(place.registry))
    assert before["bbbc038"].files[0].url != after["bbbc038"].files[0].url


FILE = {"name": "a.zip", "url": "https://example.invalid/a.zip"}
ENTRY = {
    "title": "t", "licence": "l", "citation": "c", "homepage": "h",
    "files": [FILE], "layout": {"images": "{id}.tif"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "t"}, "unknown key `mine.titel`"),
        ({"titel": "t"}, "did you mean `title`?"),
        ({"files": [FILE | {"ulr": "x"}]}, "unknown key `mine.files.0.ulr`"),
        ({"files": [FILE | {"ulr": "x"}]}, "did you mean `url`?"),
        ({"layout": {"images": "{id}", "axis": "YX"}}, "did you mean `axes`?"),
        ({"qqqqqq": 1}, "known here: title, files"),
        ({"title": ""}, "bad value of `mine.title`"),
        ({"files": []}, "bad value of `mine.files`"),
        ({"files": [FILE, FILE]}, "`files` names a file twice"),
        ({"files": [FILE | {"name": "a/b.zip"}]}, "not the name of a file"),
        ({"files": [FILE | {"name": "..zip"}]}, "not the name of a file"),
        ({"files": [FILE | {"url": "ftp://a/b"}]}, "begins with https://"),
        ({"files": [FILE | {"sha256": "ABC"}]}, "bad value of `mine.files.0.sha256`"),
        ({"files": [FILE | {"size": 0}]}, "bad value of `mine.files.0.size`"),
        ({"layout": {"images": "a.tif"}}, "`images` needs {id} exactly once"),
        ({"layout": {"images": "{id}", "labels": "x"}}, "`labels` needs {id}"),
        ({"layout": {"images": "{id}", "labels": "{split}{id}"}}, "`images` has none"),
        ({"layout": {"images": "{split}{id}{split}"}}, "has {split} twice"),
        ({"layout": {"images": "{id}", "axes": "CYX"}}, "`channel` go together"),
        ({"layout": {"images": "{id}", "axes": "TYX"}}, "'TYX' are not supported"),
        (
            {"layout": {"images": "{id}", "axes": "CYX", "channel": 0,
                        "keep": "fluorescence"}},
            "needs the axes YX or YXC",
        ),
    ],
)  # fmt: skip
def test_a_registry_with_a_mistake(
    change: dict[str, Any], message: str, place: Place
) -> None:
    registry = place.registry
    registry.write_text(yaml.safe_dump({"mine": ENTRY | change}))
    with pytest.raises(PhantomscopeError) as caught:
        load_registry(str(registry))
    assert message in str(caught.value)
    assert caught.value.where == str(registry)


def test_all_mistakes_are_told_at_once(place: Place) -> None:
    entries = {"Bad Name": ENTRY, "mine": ENTRY | {"title": 3, "x": 1}}
    place.registry.write_text(yaml.safe_dump(entries))
    with pytest.raises(PhantomscopeError, match="3 entries are wrong") as caught:
        load_registry(str(place.registry))
    for key in ("`Bad Name`", "`mine.title`", "`mine.x`"):
        assert key in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "dataset", "dataset": "bbbc38"}, "did you mean `bbbc038`?"),
        ({"kind": "dataset", "dataset": "qqqq"}, "known here: bbbc038"),
        ({"kind": "dataset"}, "`kind: dataset` needs `dataset`"),
        ({"dataset": "bbbc038"}, "belong to `kind: dataset`"),
        ({"mirror": "x"}, "belong to `kind: dataset`"),
        ({"kind": "dataset", "dataset": "bbbc038", "path": "x"}, "`kind: folder`"),
        (
            {"kind": "dataset", "dataset": "bbbc038", "axes": "YXC", "channel": 1},
            "the registry says `axes`",
        ),
        ({"downloads": "{x}"}, "braces are wildcards"),
        ({"downloads": ""}, "at least 1 character"),
        ({"kind": "dataset", "dataset": "a", "registry": "no.yaml"}, "no such file"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PhantomscopeError) as caught:
        make_config({"source": options})
    assert message in str(caught.value)
