"""Stand-ins of semantic filtering: what trains and what tests is apart."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from benchmarks import standins_layers as standins

from phantomscope.acquire.source import acquire
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collections of the same names and shapes, with drawn content."""
    data = tmp_path_factory.mktemp("collections")
    frames = np.zeros((440, 96, 128), np.uint8)
    for number, frame in enumerate(frames):
        row = 10 + number % 60
        frame[row : row + 8, 30:70] = 170  # agar around the worm
        frame[row + 2 : row + 6, 32:68] = 60
        frame[90, 5] = 40  # a speck
    for name, array in (
        (standins.WORMS, frames),
        (f"{standins.MICROGLIA}/pg6_t1-5.tif", np.zeros((5, 512, 512), np.uint8)),
        (
            f"{standins.MICROGLIA}/pg6_t1-5-labelMasks.tif",
            np.arange(512, dtype=np.uint16)[None, :, None] * np.ones((3, 1, 512), "u2"),
        ),
    ):
        path = data / name
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, array, photometric="minisblack")
    for part in ("images", "labels"):
        (data / standins.NUCLEI / part).mkdir(parents=True)
    for name, side, light in (("a", 8, 200), ("b", 15, 200), ("c", 8, 20)):
        labels = np.zeros((256, 256), np.uint16)
        labels[9 : 9 + side, 9 : 9 + side] = 1
        for part, array in (("images", labels * light), ("labels", labels)):
            path = data / standins.NUCLEI / part / f"{name}.png"
            imageio.imwrite(path, array.astype(np.uint8))
    return data


@pytest.mark.parametrize("spans", [standins.FAST, standins.SLOW])
def test_no_time_is_shared(spans: dict[str, tuple[int, int]]) -> None:
    for one, other in product(spans, spans):
        (a, b), (c, d) = spans[one], spans[other]
        apart = max(c - b, a - d)
        if one.split("-")[0] != other.split("-")[0]:
            assert apart > 15
        elif one != other:
            assert apart > 0


def test_worms_are_videos_with_masks(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: standins.FAST[name] for name in ("train-0", "train-1", "test-slow")}
    monkeypatch.setattr(standins, "FAST", few)
    standins.lay_out_worms(there, tmp_path)
    for name, dark in (("worms", True), ("worms-masked", False)):
        videos, masks = (str(tmp_path / name / part) for part in ("videos", "labels"))
        acquire(Source(kind="videos", path=videos, labels=masks), tmp_path / "set")
        images = ImageSet.open(tmp_path / "set")
        assert len(images) == 2 * 20 + 10
        assert set(images.table["group"]) == set(few)
        image, mask = (read("train-0-t00003") for read in (images.image, images.mask))
        assert mask[15:19, 32:68].all()
        assert mask.sum() == 4 * 36
        assert (image[mask > 0] < 100).all()
        around = np.median(image[mask == 0])
        assert (around > 140) == dark
    # The plate stays where it is, the speck of the mask does not.
    plates = np.stack([images.image(f"train-0-t{n:05}") for n in range(3)])
    assert (plates[:, 90, 5] == 40).all()
    acquire(Source(kind="videos", path=str(tmp_path / "worms/videos")), tmp_path / "s")
    drawn = ImageSet.open(tmp_path / "s")
    first, later, other = (
        drawn.image(name)[75:, :].astype(float)
        for name in ("train-0-t00000", "train-0-t00005", "train-1-t00000")
    )
    assert first[15, 5] > 60
    assert 1 < (first - later).std() < 5
    assert (first - other).std() > 8


def test_microglia_share_no_place(there: Path, tmp_path: Path) -> None:
    standins.lay_out_microglia(there, tmp_path)
    folder = tmp_path / "microglia/labels"
    seen = {
        side: np.unique([tifffile.imread(p) for p in sorted(folder.glob(f"{side}-*"))])
        for side in ("train", "test")
    }
    assert len(list(folder.iterdir())) == 6
    # Each row has a number of its own.
    assert seen["test"].min() - seen["train"].max() == 25


def test_nuclei_are_bright_and_of_two_sizes(there: Path, tmp_path: Path) -> None:
    standins.lay_out_nuclei(there, tmp_path)
    names = sorted(path.name for path in (tmp_path / "nuclei/images").iterdir())
    assert names == ["large-b.tif", "small-a.tif"]
    inside = tifffile.imread(tmp_path / "nuclei/labels/small-a.tif") > 0
    image = tifffile.imread(tmp_path / "nuclei/images/small-a.tif")
    assert np.median(image[inside]) == standins.NUCLEUS
    assert np.median(image[~inside]) == standins.BACKGROUND


def test_collections_that_are_not_there(tmp_path: Path) -> None:
    for read in (standins.lay_out_worms, standins.lay_out_nuclei):
        with pytest.raises(PhantomscopeError, match=r"there (is|are) no"):
            read(tmp_path, tmp_path / "out")
