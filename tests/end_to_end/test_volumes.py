"""A volume from file to file: planes in, planes out, killed midway."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from benchmarks.laboratory import SMOKE, Laboratory, start

from phantomscope.config.diffusion import Network, Process
from phantomscope.engine.checkpoint import save_checkpoint
from phantomscope.engine.networks import make_network
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array, write_ome_tiff
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import NoiseField
from phantomscope.images.volumes import PlaneReader, write_volume
from phantomscope.images.writer import ImageSetWriter

pytestmark = pytest.mark.end_to_end
SHAPE = (40, 30, 34)


def volume_model(path: Path) -> Path:
    """A model of volumes with random weights."""
    network = Network(preset="small")
    meta = {"network": network.model_dump(), "process": Process().model_dump(),
            "value_range": [-1.5, 1.5], "fingerprint": "f", "dims": 3}  # fmt: skip
    state = make_network(network, 0, 3).state_dict()
    save_checkpoint(path, {"network": state}, meta)
    return path


def sketches(folder: Path, kind: str) -> Path:
    """Two volumes that look like sketches, and their labels."""
    with ImageSetWriter(folder, {}) as writer:
        for n in range(2):
            smooth = NoiseField(n, "x").block((0, 0, 0), SHAPE)
            image = np.abs(smooth).astype(np.float32) / 4
            mask = (smooth > 1).astype(np.uint16)
            writer.add(f"synthetic-{n}", image, mask, type=kind)
    return folder


def hashes(folder: Path) -> list[str]:
    found = ImageSet.open(folder)
    found.verify()
    assert not (folder / "states").exists()
    return [str(found.row(i)[c]) for i in found.ids for c in ("sha256", "mask_sha256")]


def test_a_volume_killed_midway_is_the_same_file(lab: Laboratory, tmp_path):
    mine = replace_paths(lab, volume_model(tmp_path / "model.pt"))
    kind = yaml.safe_load(mine.sketch.read_text())["types"][0]["name"]
    drawn = sketches(tmp_path / "sketches", kind)
    content = yaml.safe_load(SMOKE.read_text())
    content["synthesise"] = {"steps": 3, "tile": 32, "overlap": 8, "tile_depth": 24,
                             "overlap_depth": 8, "sampler": "sde_dpmpp_2m"}  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))

    def command(name: str) -> list[str]:
        return mine.synthesis(drawn, tmp_path / name, tmp_path / "c.yaml")

    whole = start(command("whole"))
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    killed = start(command("killed"))
    note = tmp_path / ".killed.partial/states/synthetic-1/next.json"
    end = time.monotonic() + 600
    while not (note.exists() and json.loads(note.read_text())["sweep"] >= 2):
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed").exists()
    # As if it had been killed between the first volume and the end of its states.
    left = tmp_path / ".killed.partial/states/synthetic-0"
    left.mkdir()
    (left / "state-0.raw").touch()
    again = start(command("killed"))
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "killed")
    made = ImageSet.open(tmp_path / "whole")
    image = made.image("synthetic-0")
    assert image.shape == SHAPE
    assert image.dtype == np.uint16
    assert image.std() > 0
    assert np.array_equal(made.mask("synthetic-0"),
                          ImageSet.open(drawn).mask("synthetic-0"))  # fmt: skip


def replace_paths(lab: Laboratory, model: Path) -> Laboratory:
    """The same laboratory with another model."""
    other = Laboratory(lab.folder, lab.config)
    other.model = model
    return other


def test_planes_hold_what_the_array_holds(tmp_path):
    array = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    path = tmp_path / "a.ome.tif"
    found = write_volume(path, iter(array), SHAPE, array.dtype, pixel_size=0.5)
    assert (found["low"], found["high"]) == (array.min(), array.max())
    assert np.array_equal(read_array(path), array)
    with PlaneReader(path, SHAPE) as reader:
        assert reader.dtype == np.uint16
        assert np.array_equal(reader.read(3, 7), array[3:7])
        assert np.array_equal(np.stack(list(reader)), array)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("array", array)
        writer.add_volume("planes", iter(array), SHAPE, array.dtype)
    made = ImageSet.open(tmp_path / "set")
    rows = [made.row(i) for i in ("array", "planes")]
    for name in ("sha256", "low", "high", "axes", "depth", "height", "dtype"):
        assert rows[0][name] == rows[1][name]
    with made.planes("planes") as reader:
        assert np.array_equal(reader.read(0, 2), array[:2])


def test_broken_volumes_are_one_clear_error(tmp_path):
    array = NoiseField(0, "x").block((0, 0, 0), SHAPE)
    path = tmp_path / "a.ome.tif"
    write_ome_tiff(path, array, axes="ZYX")
    with pytest.raises(PhantomscopeError, match="manifest records"):
        PlaneReader(path, (41, 30, 34))
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(PhantomscopeError, match="cannot be read as a volume"):
        PlaneReader(path, SHAPE)
    damaged = bytearray(whole)
    for place in range(400, len(damaged) - 400, 50):
        damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(PhantomscopeError, match=r"damaged|manifest records"):
        with PlaneReader(path, SHAPE) as reader:
            reader.read(0, SHAPE[0])
    # Pixels that are not stored would be zeros.
    path.write_bytes(whole)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[3].aspage().tags["StripByteCounts"]
        tag.overwrite([0] * tag.count)
    with pytest.raises(PhantomscopeError, match="parts are missing"):
        PlaneReader(path, SHAPE)
    path.unlink()
    with pytest.raises(PhantomscopeError, match=r"a\.ome\.tif"):
        PlaneReader(path, SHAPE)


def test_a_volume_without_a_depth_is_refused(tmp_path):
    array = NoiseField(0, "x").block((0, 0, 0), SHAPE)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", array)
    manifest = tmp_path / "set/manifest.csv"
    table = pd.read_csv(manifest)
    for broken in (table.drop(columns="depth"), table.assign(depth=0)):
        broken.to_csv(manifest, index=False)
        with pytest.raises(PhantomscopeError, match="no proper `depth` in line 2"):
            ImageSet.open(tmp_path / "set")
