"""The registry of public data sets: what it says, and mistakes in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.archives import (
    SHIPPED,
    Place,
)

from phantomscope.config import datasets
from phantomscope.config.datasets import load_registry
from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError

# The registry


def test_the_shipped_registry_is_whole() -> None:
    found = load_registry(str(SHIPPED))
    assert list(found) == [
        "bbbc038", "dsb2018_stardist", "ctc_ce", "ctc_tric", "ctc_gowt1", "ctc_hela",
        "ath_meristem", "bbbc050", "shareloc_tubulin_nocodazole", "shareloc_tubulin",
        "shareloc_tom22", "bbbc026", "bbbc026_plate", "bbbc042",
    ]  # fmt: skip
    for name in found:
        config = make_config({"source": {"kind": "dataset", "dataset": name}})
        assert config.source.of_tables == name.startswith("shareloc")
        # Of points and boxes there is a table instead.
        without = config.source.of_tables or found[name].layout.reader is not None
        assert config.has_labels != without
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
        ({"layout": {"reader": "bbbc042_box"}}, "'bbbc042_boxes'"),
        ({"layout": {"reader": "bbbc042_boxes"}}, "images, then text files of"),
        ({"layout": {"reader": "bbbc026_plate", "axes": "YX"}}, "`axes`: with `reader"),
        ({"layout": {"reader": "bbbc026_plate", "images": "{id}"}}, "`images`: with"),
        (
            {"layout": {"reader": "bbbc026_plate"}, "files": [FILE | {"ranges": True}]},
            "needs whole files",
        ),
        ({"layout": {}}, "`images` needs {id} exactly once"),
        (
            {"extent": {"images": 9, "shape": [8, 8], "published": [9, 1]}},
            "more images than",
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
        ({"dataset": "bbbc038"}, "`dataset` belongs to `kind: dataset`"),
        ({"mirror": "x"}, "`mirror` belongs to `kind: dataset`"),
        ({"kind": "dataset", "dataset": "bbbc042", "group": "(a)"}, "says itself"),
        ({"kind": "dataset", "dataset": "bbbc042", "labelled": True}, "no labels"),
        ({"kind": "dataset", "dataset": "bbbc026", "download": "members"}, "the whole"),
        ({"kind": "dataset", "dataset": "bbbc042", "download": "members"}, "one zip"),
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
