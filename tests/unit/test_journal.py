"""What a writer of an image set takes up again: whole images only, nothing else."""

import json
import os
import random

import numpy as np
import pytest

from phantomscope.images.imageset import ImageSet
from phantomscope.images.journal import journal_line, whole_rows
from phantomscope.images.writer import ImageSetWriter

COUNT = 3


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 9999, (24, 32)).astype(np.uint16)


def fill(writer: ImageSetWriter, count: int = COUNT + 1) -> list[str]:
    """Add the images that are missing; return which."""
    added = [f"i{n}" for n in range(count) if f"i{n}" not in writer]
    for name in added:
        number = int(name[1:])
        writer.add(name, image(number), image(number) % 4, objects=np.int64(3))
    return added


@pytest.fixture
def killed(tmp_path):
    """The partial folder of a writer that was killed after three images."""
    writer = ImageSetWriter(tmp_path / "set", {}).__enter__()
    fill(writer, COUNT)
    writer._lock.close()  # as the system frees it
    return writer.partial


def finished(folder) -> list[str]:
    """Write the set to its end; return what was made now."""
    with ImageSetWriter(folder, {}) as writer:
        added = fill(writer)
    found = ImageSet.open(folder)
    found.verify()
    assert found.ids == [f"i{n}" for n in range(COUNT + 1)]
    assert list(found.table["objects"]) == [3] * (COUNT + 1)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    named = {*found.table["image"], *found.table["mask"]}
    assert files == {*named, "manifest.csv", "info.json"}
    return added


def test_finished_images_are_not_made_again(killed, tmp_path):
    assert finished(tmp_path / "set") == ["i3"]


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("harm", ["empty", "short", "other pixels", "gone"])
def test_an_image_that_never_reached_the_disk_is_made_again(
    kind, harm, killed, tmp_path
):
    path = killed / kind / "i1.ome.tif"
    if harm == "gone":
        path.unlink()
    elif harm == "other pixels":
        os.replace(killed / kind / "i2.ome.tif", path)
    else:
        path.write_bytes(path.read_bytes()[: 0 if harm == "empty" else 300])
    expected = {"i1", "i3"} | ({"i2"} if harm == "other pixels" else set())
    assert set(finished(tmp_path / "set")) == expected


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n\n", b"\0" * 300, b"\xff\xfe garbage", b"123\n", b"[]\n", b"{}\n",
     b'{"id": "x"}\n', b"0 {}\n", b'{"id": "i0", "image": "", "mask": ""}\n'],
)  # fmt: skip
def test_garbage_in_the_journal_is_no_image(garbage, killed, tmp_path):
    journal = killed / "journal.jsonl"
    first, *others = journal.read_bytes().splitlines(keepends=True)
    # In place of the first line, the others are whole.
    journal.write_bytes(garbage.rstrip(b"\n") + b"\n" + b"".join(others))
    assert finished(tmp_path / "set") == ["i0", "i3"]
    assert first not in garbage


def test_any_flipped_bit_of_the_journal_is_noticed(killed):
    journal = killed / "journal.jsonl"
    content = journal.read_bytes()
    rows = list(whole_rows(journal))
    rng = random.Random(0)
    for _ in range(100):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        journal.write_bytes(flipped)
        found = list(whole_rows(journal))
        assert len(found) < COUNT
        assert all(row in rows for row in found)


def test_files_that_were_being_written_do_not_stay(killed, tmp_path):
    for name in ("images/.i3.ome.tif.0123abcd.partial", ".journal.jsonl.1.partial"):
        (killed / name).write_bytes(b"torn")
    assert finished(tmp_path / "set") == ["i3"]


def test_a_line_is_the_row():
    row = {"id": "a b", "n": np.float32(0.5), "text": "µm"}
    digest, text = journal_line(row).split(" ", 1)
    assert len(digest) == 64
    assert json.loads(text) == {"id": "a b", "n": 0.5, "text": "µm"}
