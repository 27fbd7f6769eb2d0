"""Building blocks of cases: images, files, and commands on the laboratory's files."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from skimage import io as skimage_io

from benchmarks.bad_inputs.model import Invocation
from benchmarks.laboratory import SMOKE, Laboratory
from phantomscope.stages import sketching

Content = bytes | np.ndarray[Any, Any]
UNREADABLE = ("cannot be read as an image", "export or copy it again")
NOISE = np.random.default_rng(1).integers(0, 255, (96, 128)).astype(np.uint16)


def blobs(shape: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray[Any, Any]:
    """Return an image that is fine: bright discs on a noisy ground, uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light = np.zeros(shape)
    for cy in range(16, shape[0], 32):
        for cx in range(16, shape[1], 32):
            radius = rng.uniform(6, 10)
            light[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(400, 800)
    return rng.poisson(light + 100).astype(np.uint16)


def tiff(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return an array as the bytes of a TIFF file."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def png(array: np.ndarray[Any, Any]) -> bytes:
    """Return an 8-bit array as the bytes of a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        skimage_io.imsave(path, array.astype(np.uint8), check_contrast=False)
        return path.read_bytes()


def write(path: Path, content: Content | str) -> Path:
    """Write bytes, text or an array (as TIFF) to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = tiff(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def config_file(folder: Path, options: dict[str, Any]) -> Path:
    """Write the smoke config with some options changed."""
    content = yaml.safe_load(SMOKE.read_text())
    for key, value in options.items():
        old = content.get(key)
        content[key] = old | value if isinstance(old, dict) else value
    return write(folder / "config.yaml", yaml.safe_dump(content))


def acquiring(folder: Path, code: int = 1, **source: Any) -> Invocation:
    """Acquire the images in `folder`/in."""
    options = {"source": {"kind": "folder", "path": str(folder / "in"), **source}}
    argv = ["acquire", "--config", config_file(folder, options)]
    output = folder / "out"
    return Invocation([*argv, "--images", output], (output,), code)


def sketches_of(lab: Laboratory) -> Path:
    """Return the first shard of sketches, drawn once."""
    folder = lab.folder / "bad-inputs/sketches"
    if not folder.exists():
        sketching.simulate(lab.config, sketch=lab.sketch, sketches=folder)
    return folder


def camera_of(lab: Laboratory) -> Path:
    """Return the sketches as the camera sees them, made once."""
    folder = lab.folder / "bad-inputs/camera"
    if not folder.exists():
        sketching.photograph(
            lab.config, sketch=lab.sketch, prepared=lab.prepared,
            normalisation=lab.normalisation, sketches=sketches_of(lab),
            photographs=folder,
        )  # fmt: skip
    return folder


def synthesising(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Synthesise from the laboratory's files, some of them replaced."""
    given = {
        "prepared": lab.prepared, "normalisation": lab.normalisation,
        "model": lab.model, "start": lab.start, "sketches": sketches_of(lab),
        "synthetic": folder / "out", **paths,
    }  # fmt: skip
    argv: list[object] = ["synthesise", "--config", config_file(folder, options or {})]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (given["synthetic"],))


def checking(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Check the camera images as if they were synthetic."""
    given = {
        "normalisation": lab.normalisation, "sketch": lab.sketch,
        "synthetic": camera_of(lab), "checks": folder / "out", **paths,
    }  # fmt: skip
    argv: list[object] = ["check", "--config", config_file(folder, options or {})]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (folder / "out",))


def training(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Train for two steps."""
    given = {
        "prepared": lab.prepared, "normalisation": lab.normalisation,
        "model": folder / "out.pt", "metrics": folder / "metrics.jsonl",
        "state": folder / "state", **paths,
    }  # fmt: skip
    config = config_file(folder, {"train": {"steps": 2, **(options or {})}})
    argv: list[object] = ["train-diffusion", "--config", config]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (given["model"], given["metrics"]))


def copied(folder: Path, source: Path) -> Path:
    """Copy a folder of the laboratory, to be damaged."""
    target = folder / source.name
    shutil.copytree(source, target)
    return target


def labelled(folder: Path, images: dict[str, Content]) -> Path:
    """Write images into `folder`/in and return the folder for labels."""
    for name, content in images.items():
        write(folder / "in" / name, content)
    (folder / "labels").mkdir()
    return folder / "labels"
