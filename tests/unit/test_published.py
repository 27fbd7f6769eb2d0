"""Published values: those of the paper, and tables that lose no row."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from phantomscope.errors import PhantomscopeError
from phantomscope.tables import published as module
from phantomscope.tables.published import (
    DEFINITIONS,
    beside,
    load_published,
    published_sd,
    remark,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows():
    return load_published("eschweiler")


def value(rows, dataset, metric, condition):
    wanted = (dataset, metric, condition)
    (found,) = [r for r in rows if (r.dataset, r.metric, r.condition) == wanted]
    return found.id, found.value


def test_the_values_are_those_of_the_paper(rows):
    assert len(rows) == 62
    assert [row.id for row in rows] == [f"e{n:03d}" for n in range(1, 63)]
    for key, expected in {
        ("ath", "psnr", "real_t100"): ("e001", 27.697),
        ("ath", "psnr", "sketch_t600"): ("e010", 21.152),
        ("ath", "ssim", "real_t600"): ("e016", 0.609),
        ("ath", "mae", "sketch_t1000"): ("e036", 0.321),
        ("ath", "kld", "t100"): ("e037", 0.508),
        ("ath", "bd", "t600"): ("e046", 0.001),
        ("ce", "psnr", "sketch_t600"): ("e049", 19.155),
        ("tric", "ssim", "sketch_t600"): ("e054", 0.982),
        ("hela", "mae", "sketch_t600"): ("e060", 0.026),
        ("ath", "dice", "synthetic"): ("e061", 0.627),
    }.items():
        assert value(rows, *key) == expected
    sums = {
        "psnr": 350.735,
        "ssim": 7.763,
        "mae": 1.301,
        "kld": 0.872,
        "bd": 0.295,
        "dice": 1.464,
    }
    for metric, total in sums.items():
        assert sum(r.value for r in rows if r.metric == metric) == pytest.approx(total)
    assert {row.metric for row in rows} <= set(DEFINITIONS)
    assert [published_sd(row) for row in rows[-2:]] == [0.265, 0.170]
    assert math.isnan(published_sd(rows[0]))
    assert rows[0].n == 0  # the paper does not say


def test_a_join_keeps_every_row(rows):
    own = replace(rows[0], experiment="mine", dataset="DSB2018", value=20.0, ci_low=19,
                  ci_high=21, n=5, data_kind="stand-in", scale="smoke")  # fmt: skip
    more = replace(own, id="mine/x", metric="f1", value=0.8, data_kind="real",
                   scale="paper")  # fmt: skip
    table = beside(rows, [more, own]).set_index("id")
    assert list(table.index) == [*(row.id for row in rows), "mine/x"]
    first, other, last = (table.loc[i] for i in ("e001", "e002", "mine/x"))
    assert (first["published"], first["ours"], first["n"]) == (27.697, 20.0, 5)
    assert first["dataset"] == "ath"
    assert first["remark"] == "stand-in data (DSB2018), reduced scale (smoke)"
    assert other["remark"] == "not run"
    assert math.isnan(other["ours"])
    assert last["remark"] == "not in the paper"
    assert math.isnan(last["published"])
    assert (table["definition"] != "").all()
    assert remark(more) == ""
    with pytest.raises(PhantomscopeError, match="two of the ours values"):
        beside(rows, [own, own])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("e002,", "e001,"), "'e001' occurs twice"),
        (lambda text: text.replace("27.697", "inf"), "e001 is no finite number"),
        (lambda text: text.replace("26.779", "26,779"), "this table is broken"),
        (lambda text: text.replace("value,", "valeu,"), "lacks the columns value"),
    ],
)
def test_a_damaged_table_is_refused(change, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "config/published/eschweiler.csv").read_text()
    path = tmp_path / "config/published/eschweiler.csv"
    path.parent.mkdir(parents=True)
    path.write_text(change(text))
    with pytest.raises(PhantomscopeError, match=words) as caught:
        load_published("eschweiler")
    assert caught.value.where.endswith("config/published/eschweiler.csv")
    assert caught.value.fix


def test_an_unknown_paper(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert module.find_published("eschweiler").is_file()  # of the checkout
    with pytest.raises(PhantomscopeError, match="no published values of 'nobody'"):
        load_published("nobody")
