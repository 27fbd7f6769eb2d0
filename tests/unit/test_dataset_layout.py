"""Where images and labels lie in archives: patterns that make sense, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phantomscope.acquire.samples import find_samples
from phantomscope.config.layout import Layout
from phantomscope.errors import PhantomscopeError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "{id}-{frame}"}, "or {frame} instead"),
        ({"images": "{frame}", "labels": "{id}"}, r"`labels` needs {frame}"),
        ({"images": "{id}", "labels": "{id}{group}"}, r"has a {group}, `images` has"),
        ({"images": "{id}", "labels": "{id}{plane}"}, r"{plane} needs `axes` with a Z"),
        ({"images": "{id}{plane}"}, r"`images` has {plane}, which is none of"),
        ({"images": "{id}", "labels": {"best": "{id}"}}, "truths are `gold` and"),
        ({"images": "{id}", "pixel_size_um": [1, 1, 1]}, "needs `axes` with a Z"),
        ({"images": "{id}", "axes": "TYX"}, "of volumes 'ZYX'"),
    ],
)
def test_layouts_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(**change)


def test_frames_are_told_apart_by_number() -> None:
    layout = Layout(images="{split}/{group}_t{frame}.tif", gaps=True)
    names = ["a/E1_t10.tif", "a/E1_t9.tif", "b/E1_t009.tif", "a/E02_t3.tif"]
    samples = find_samples(names, layout, Path("a.zip"))
    assert [s.stem for s in samples] == ["E1-t9", "E1-t10", "E02-t3", "E1-t009"]
    assert [s.series for s in samples] == ["a-E1", "a-E1", "a-E02", "b-E1"]
    assert [s.frame for s in samples] == [9, 10, 3, 9]


def test_projected_labels_belong_to_all_images_of_a_key() -> None:
    layout = Layout(images="in/{split}/{id}.tif", labels="masks/{id}.tif")
    names = ["in/test/a.tif", "in/train/a.tif", "in/train/b.tif", "masks/a.tif"]
    samples = find_samples(names, layout, Path("a.zip"))
    labels = {(s.split, s.stem): s.labels for s in samples}
    one = ("masks/a.tif",)
    assert labels == {("test", "a"): one, ("train", "a"): one, ("train", "b"): ()}


def test_a_whole_volume_and_one_of_its_planes_compete() -> None:
    patterns = ["m{frame}.tif", "m_{frame}_{plane}.tif"]
    layout = Layout(images="t{frame}.tif", labels={"gold": patterns}, axes="ZYX")
    names = ["t0.tif", "t1.tif", "m0.tif", "m_1_3.tif", "m_1_2.tif"]
    whole, sparse = find_samples(names, layout, Path("a.zip"), "gold")
    assert (whole.labels, whole.planes) == (("m0.tif",), ())
    assert (sparse.labels, sparse.planes) == (("m_1_2.tif", "m_1_3.tif"), (2, 3))
    with pytest.raises(PhantomscopeError, match=r"m0\.tif and m_0_1\.tif are of the"):
        find_samples([*names, "m_0_1.tif"], layout, Path("a.zip"), "gold")
    with pytest.raises(PhantomscopeError, match="of the same image"):
        find_samples([*names, "m_1_03.tif"], layout, Path("a.zip"), "gold")
