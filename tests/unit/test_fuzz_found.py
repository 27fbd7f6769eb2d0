"""What random damage has found: inputs that once crashed, hung or passed unseen."""

import zipfile

import numpy as np
import pytest
import tifffile
import torch

from phantomscope.config.load import load_config, make_config
from phantomscope.engine.checkpoint import load_checkpoint, save_checkpoint
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array


def problem(function, *arguments):
    """Call, and return the text of the error."""
    with pytest.raises(PhantomscopeError) as caught:
        function(*arguments)
    assert caught.value.where
    assert caught.value.fix
    assert len(str(caught.value)) < 10_000
    return str(caught.value)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.pt"
    rng = torch.Generator().manual_seed(0)
    save_checkpoint(path, {"network": {"a": torch.randn(8, 8, generator=rng)}}, {})
    return path


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("seed: 0x" + "f" * 5000, "too many digits"),
        ("train: {steps: 0b" + "1" * 99_999 + "}", "too many digits"),
        ("train: {learning_rate: " + "59:" * 999 + "1.5}", "too many digits"),
        ("seed: !!int ''", "does not fit its tag"),
        ("seed: !!float ''", "does not fit its tag"),
        ("seed: !!bool maybe", "does not fit its tag"),
        ("seed: !!timestamp soon", "does not fit its tag"),
        ("seed: &a [*a]", "values"),
        ('source: {kind: folder, path: "a\\0b"}', "no file can have"),
        ('source: {kind: folder, path: "\\ud800"}', "no file can have"),
        ("#" * 3_000_000, "bytes"),
        ("evaluate: {thresholds: [" + "0.5," * 9000 + "]}", "twice"),
        ("\n".join(f"option{n}: 1" for n in range(999)), "and 979 more"),
    ],
)
def test_yaml_that_once_hung_or_crashed(text, what, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert what in problem(load_config, path)


def test_numbers_that_python_does_not_write_are_explained():
    options = {"seed": 1 << 99_999, "train": {"steps": [1 << 99_999]}}
    text = problem(make_config, options)
    assert "`seed`" in text
    assert "very many digits" in text


def rewritten(good, path, pickled=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            content = old.read(name)
            is_pickle = name.endswith("data.pkl") and pickled is not None
            new.writestr(name, pickled if is_pickle else content)


@pytest.mark.parametrize(
    ("pickled", "what"),
    [
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + b"\xff" * 5 + b"\0\x85R.", "else"),
        (b"\x80\x02K\x07Q.", "saved_id must be a tuple"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "else"),
        (b"\x80\x02]q\x00h\x00a.", "no named tensors"),
    ],
)
def test_pickles_that_ask_for_memory_or_crash(pickled, what, good, tmp_path):
    rewritten(good, tmp_path / "model.pt", pickled)
    assert what in problem(load_checkpoint, tmp_path / "model.pt")


def test_a_flipped_bit_of_a_weight_and_a_compressed_record_are_refused(good, tmp_path):
    path, data = tmp_path / "model.pt", bytearray(good.read_bytes())
    place = data.index(load_checkpoint(good)[0]["network"]["a"].numpy().tobytes())
    data[place + 100] ^= 1
    path.write_bytes(data)
    assert "damaged" in problem(load_checkpoint, path)
    rewritten(good, path, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in problem(load_checkpoint, path)


@pytest.mark.parametrize(
    ("weight", "what"),
    [
        (torch.tensor([1.0, torch.nan]), "NaN"),
        (torch.tensor([1.0, torch.inf]), "infinite"),
        (torch.zeros(1).expand(10**12), "without values of its own"),
        (torch.zeros(3, device="meta"), "something else"),
        (torch.zeros(3, dtype=torch.complex64), "something else"),
        (torch.eye(3).to_sparse(), "something else"),
    ],
)
def test_weights_that_are_none(weight, what, tmp_path):
    save_checkpoint(tmp_path / "model.pt", {"network": {"a": weight}}, {})
    assert what in problem(load_checkpoint, tmp_path / "model.pt")


@pytest.mark.parametrize("tag", ["ImageLength", "ImageWidth"])
def test_pixels_that_are_not_stored_are_not_made_up(tag, tmp_path):
    path = tmp_path / "a.tif"
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(path, image, tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(4_000_000)
    assert "parts are missing" in problem(read_array, path)


def test_pages_that_run_in_a_circle(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 32, 32), np.uint16), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        last = file.pages[2]
        place = last.offset + 2 + 12 * len(last.tags)
        data = bytearray(path.read_bytes())
        data[place : place + 4] = last.offset.to_bytes(4, "little")
    path.write_bytes(data)
    assert "circle" in problem(read_array, path)
