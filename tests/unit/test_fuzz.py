"""Random damage: each input is taken or refused by a `PhantomscopeError`, nothing else.

`FUZZ=50 pytest tests/unit/test_fuzz.py` tries fifty times as many inputs, new ones.
"""

import gzip
import io
import json
import os
import signal
import string
import tarfile
import warnings
import zipfile
from datetime import date

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from phantomscope.acquire.archive import extract
from phantomscope.acquire.localisations import read_localisations
from phantomscope.acquire.source import acquire
from phantomscope.config.data import Source
from phantomscope.config.load import load_config, make_config
from phantomscope.config.model import Config
from phantomscope.engine.checkpoint import load_checkpoint, save_checkpoint
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet

SCALE = int(os.environ.get("FUZZ", "1"))
LONGEST = 60.0  # seconds for one input, on a machine with other work


def tries(count):
    return settings(
        max_examples=count * SCALE,
        deadline=None,
        derandomize=SCALE == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """No answer in time; not an `Exception`, so that no code takes it for its own."""


def refused(function, *arguments):
    """Call; return what it returns and None, or None and the one error allowed."""

    def hang(*_):
        raise Hang

    previous = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments), None
    except PhantomscopeError as problem:
        error = problem
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert error.what
    assert error.where
    assert error.fix
    assert len(str(error)) < 10_000
    return None, error


@st.composite
def damaged(draw, seeds, tokens=()):
    """One of the seeds (bytes) with some bytes flipped, lost, repeated or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are at the beginning or the end: most damage should hit them.
        last = len(data)
        place = draw(
            st.one_of(
                st.integers(0, last), st.integers(0, min(last, 300)),
                st.integers(max(0, last - 300), last),
            )
        )  # fmt: skip
        how = draw(st.sampled_from(["flip", "set", "lose", "repeat", "insert", "cut"]))
        some = slice(place, place + draw(st.integers(1, 8)))
        if how == "flip" and place < last:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and place < last:
            data[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
        elif how == "lose":
            del data[some]
        elif how == "repeat":
            data[place:place] = data[some] * draw(st.integers(1, 50))
        elif how == "insert":
            token = st.sampled_from(tokens) if tokens else st.binary(max_size=8)
            data[place:place] = draw(token)
        elif how == "cut" and draw(st.booleans()):
            del data[place:]
    return bytes(data)


# Configs

JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**9), 10**9),
        st.sampled_from([10**400, -(2**63), 2**64]),
        st.floats(),
        st.text(max_size=12),
        st.text(st.characters(categories=["Cs", "Cc", "Cf"]), max_size=4),
        st.dates().map(date.isoformat),
        st.sampled_from(["auto", "~", "1e3", "0x1", "!!int", "*a", "yes"]),
    ),
    lambda some: st.one_of(
        st.lists(some, max_size=4),
        st.dictionaries(st.text(max_size=5), some, max_size=3),
        st.dictionaries(st.integers() | st.none() | st.booleans(), some, max_size=2),
    ),
    max_leaves=12,
)
SECTIONS = Config().model_dump(mode="json")


@st.composite
def config_options(draw):
    """Some true options, of which some have strange values or strange names."""
    options = {}
    for name in draw(st.lists(st.sampled_from(sorted(SECTIONS)), max_size=3)):
        section = SECTIONS[name]
        if not isinstance(section, dict) or draw(st.integers(0, 9)) == 0:
            options[name] = draw(JUNK)
            continue
        some = draw(st.lists(st.sampled_from(sorted(section)), max_size=3))
        options[name] = {key: draw(st.just(section[key]) | JUNK) for key in some}
        if draw(st.integers(0, 4)) == 0:
            options[name][draw(st.text(string.printable, max_size=9))] = draw(JUNK)
    if draw(st.integers(0, 4)) == 0:
        options[draw(st.text(max_size=9) | st.integers())] = draw(JUNK)
    return options


def taken_twice(config):
    """A config that was taken can be used, and is taken again."""
    assert config.name
    assert make_config(config.model_dump(mode="json")) == config


@tries(150)
@given(options=config_options())
def test_any_options_are_taken_or_refused(options):
    config, _ = refused(make_config, options)
    if config is not None:
        taken_twice(config)


@tries(60)
@given(options=config_options())
def test_any_config_file_is_taken_or_refused(options, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "mine.yaml"
    try:
        path.write_text(yaml.safe_dump(options), encoding="utf-8")
    except ValueError:
        return  # an integer that Python does not write
    config, error = refused(load_config, path)
    if config is None:
        assert error.where == str(path)
    else:
        taken_twice(config)


PIECES = [
    "seed", "train", "steps", "source", ": ", ":", "\n", "\n", "\n  ", "- ", "? ", "[",
    "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!int ", "!!float ", "!!bool ",
    "!!timestamp ", "!!binary ", "!!omap ", "!!set ", "!!str ", "!!null ", "!x ",
    "!!python/name:os.system ", "'", '"', "|", ">-", "#", "%YAML 1.1", "---\n", "...\n",
    "0x", "0o7", "1:2", ".inf", ".nan", "1e9", "2026-02-30", "9" * 200, "\t", "\ufeff",
    "\x85", "\u2028", "é", "\\ud800", "\0", "~", "=", "yes",
]  # fmt: skip


@tries(300)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_yaml_is_taken_or_refused(pieces, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "mine.yaml"
    path.write_text("".join(pieces), encoding="utf-8")
    config, _ = refused(load_config, path)
    if config is not None:
        taken_twice(config)


@tries(25)
@given(
    levels=st.integers(1, 40),
    width=st.integers(1, 12),
    merged=st.booleans(),
    use=st.sampled_from(["seed: *a{}", "train: *a{}", "train: {{steps: *a{}}}", "#{}"]),
)
def test_aliases_cannot_blow_up(levels, width, merged, use, tmp_path_factory):
    lines = ["a0: &a0 {k: 1}" if merged else "a0: &a0 [1]"]
    for n in range(1, levels + 1):
        many = ",".join([f"*a{n - 1}"] * width)
        lines.append(f"a{n}: &a{n} " + (f"{{<<: [{many}]}}" if merged else f"[{many}]"))
    path = tmp_path_factory.mktemp("laughs") / "mine.yaml"
    path.write_text("\n".join([*lines, use.format(levels)]))
    assert refused(load_config, path)[1] is not None  # `a0` is no option


@tries(80)
@given(
    data=damaged([json.dumps(SECTIONS).encode()], [b"[" * 9999, b"9" * 5000, b"NaN"])
)
def test_any_json_is_taken_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(data)
    refused(read_json, path)


# Images


def example_images():
    """Small images in many flavours of TIFF and PNG."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 4000, (40, 48)).astype(np.uint16)
    large = np.tile(grey, (2, 2))[:64, :64]
    flavours = [
        (grey, {}), (grey, {"compression": "zlib", "rowsperstrip": 8}),
        (grey, {"compression": "lzw"}), (grey, {"compression": "zstd"}),
        (grey.astype(np.uint8), {"compression": "packbits"}),
        (large, {"tile": (16, 16)}), (grey, {"bigtiff": True}),
        (large, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        (grey, {"ome": True, "metadata": {"axes": "YX"}}), (grey, {"imagej": True}),
        (grey.astype(np.float32), {}), (np.stack([grey] * 3), {"photometric": 1}),
    ]  # fmt: skip
    images = []
    for array, options in flavours:
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **options)
        images.append(stream.getvalue())
    for array in (grey, (grey >> 4).astype(np.uint8)):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "png")
        images.append(stream.getvalue())
    return images


IMAGES = example_images()


@tries(250)
@given(data=damaged(IMAGES) | st.binary(max_size=200))
def test_any_image_is_taken_or_refused(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    suffix = "png" if data.startswith(b"\x89PNG") else "tif"
    (folder / "in").mkdir()
    (folder / f"in/a.{suffix}").write_bytes(data)
    source = Source(kind="folder", path=str(folder / "in"))
    error = refused(acquire, source, folder / "out")[1]
    if error is not None:
        assert not (folder / "out").exists()
        return
    taken = ImageSet.open(folder / "out")
    taken.verify()
    assert taken.image("a").nbytes < 50_000_000  # of a file of a few kB


# Localisation tables

THUNDERSTORM = (
    b'"id","frame","x [nm]","y [nm]","intensity [photon]","uncertainty_xy [nm]"\n'
    b"1,1,7057.682,31836.993,4933.487,9.476\n2,1,7271.647,31422.428,148.889,14.641\n"
    b"3,2,7400.1,10637.589,4086.983,7.139\n"
)
RAPIDSTORM = (
    b'# <localizations><field identifier="Position-0-0" unit="nanometer" />'
    b'<field identifier="Position-1-0" unit="nanometer" /></localizations>\n'
    b"7057.682 31836.993\n7271.647 31422.428\n"
)
TABLES = [
    THUNDERSTORM, RAPIDSTORM, gzip.compress(THUNDERSTORM), THUNDERSTORM[:-1],
    THUNDERSTORM.decode().encode("utf-16"), THUNDERSTORM.replace(b",", b"\t"),
]  # fmt: skip
CELLS = [
    b",", b"\n", b"\r", b";", b"\t", b'"', b"nan", b"-", b"inf", b"1e999", b"e", b"#",
    b"\0", b"_", b"x [nm]", b"<", b"\xff", b".", b"9" * 400, b" " * 3000, b"\n" * 500,
]  # fmt: skip


@tries(300)
@given(data=damaged(TABLES, CELLS) | damaged(TABLES) | st.binary(max_size=60))
def test_any_table_of_localisations_is_taken_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(data)
    found, error = refused(read_localisations, path)
    if found is None:
        assert error.where == str(path)
        return
    assert len(found.x) == len(found.y) == found.source.rows > 0
    assert np.isfinite([found.x, found.y]).all()
    for values in (found.frame, found.photons, found.uncertainty):
        if values is not None:
            assert len(values) == len(found)
            assert (values >= 0).all()


# Checkpoints


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.pt"
    rng = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(8, 8, generator=rng), "b": torch.arange(3)}
    save_checkpoint(path, {"network": weights}, {"step": 3})
    return path


@tries(250)
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_harmless(data, good, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    path.write_bytes(data.draw(damaged([good.read_bytes()])))
    found, _ = refused(load_checkpoint, path)
    if found is not None:  # padding, dates and the like: the weights are the same
        tensors, meta = load_checkpoint(good)
        for name, value in tensors["network"].items():
            assert torch.equal(found[0]["network"][name], value)
        assert found[1] == meta


@tries(250)
@given(data=st.data())
def test_any_pickle_in_a_checkpoint_is_taken_or_refused(data, good, tmp_path_factory):
    path = tmp_path_factory.mktemp("pickle") / "model.pt"
    tokens = [
        b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"ctorch\nload\n", b"R", b"b",
        b".", b"\x81", b"\x93", b"J\xff\xff\xff\x7f", b"K\x00", b"(", b"t", b"u",
        b"q\x00", b"h\x00", b"N", b"}", b"Q", b"s",
    ]  # fmt: skip
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):  # gets the checksum of the damaged content
                content = data.draw(damaged([content]) | damaged([content], tokens))
            new.writestr(name, content)
    refused(load_checkpoint, path)


# Archives


def example_archives():
    content = {"a/1.txt": b"one " * 50, "a/2.txt": bytes(range(256))}
    zipped, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    tar = gzip.decompress(packed.getvalue())
    return [zipped.getvalue(), packed.getvalue(), tar]


@tries(100)
@given(data=damaged(example_archives()))
def test_any_archive_is_unpacked_or_refused(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    (folder / "data").write_bytes(data)
    error = refused(extract, folder / "data", folder / "out")[1]
    # Nothing beside the archive and its folder, and no folder after an error.
    left = {path.name for path in folder.iterdir()}
    assert left == ({"data"} if error else {"data", "out"})
