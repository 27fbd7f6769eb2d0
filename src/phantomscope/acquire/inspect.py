"""A look into a folder of images, and a config that fits them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.folder import spread
from phantomscope.acquire.guess import guess_axes
from phantomscope.acquire.listing import file_stem, list_images
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import (
    SMALLEST_SIDE,
    SUFFIXES,
    read_array,
    read_labels,
    write_text,
)
from phantomscope.progress import Progress

MOST_READ = 500
EXPOSURE_RATIO = 3.0
# Longest sides of proposed synthetic volumes, px.
SYNTHETIC_VOLUME = {"Z": 32, "Y": 128, "X": 128}


@dataclass
class FolderReport:
    """What is in a folder.

    Attributes
    ----------
    path : Path
        The folder.
    suffixes, ignored : Counter
        Image files and other entries per suffix.
    read : int
        Images that were looked at: all, or 500 spread evenly.
    shapes, dtypes : Counter
        Shapes of the files, all axes (px), and their dtypes.
    axes, channel, channels : str, int or None, int
        Guess of ``source.axes`` (empty: YX) and ``source.channel``; number of channels.
    axes_reason, scope_reason : str
        Why.
    low, high : float
        Intensity range of the chosen channel over all images, units of the files.
    scope : str
        Guess of ``normalise.scope``.
    unusable : dict
        File name to what is wrong: unreadable, NaN, constant, too small, other axes.
    labels : Path or None
        Folder of labels with the names of the images.
    labelled : int
        How many of the images have one.
    notes : list of str
        What else the user should know.
    """

    path: Path
    suffixes: Counter[str]
    ignored: Counter[str]
    read: int = 0
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    axes: str = ""
    channel: int | None = None
    channels: int = 1
    axes_reason: str = ""
    low: float = float("nan")
    high: float = float("nan")
    scope: str = "dataset"
    scope_reason: str = ""
    unusable: dict[str, str] = field(default_factory=dict)
    labels: Path | None = None
    labelled: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of image files."""
        return sum(self.suffixes.values())


def _readable(
    paths: list[Path], unusable: dict[str, str]
) -> Iterator[tuple[Path, NDArray[Any]]]:
    """Yield the files that decode; note the others."""
    for path in paths:
        try:
            array = read_array(path)
        except PhantomscopeError as problem:
            unusable[path.name] = problem.what
            continue
        if array.dtype.kind in "uif":
            yield path, array
        else:
            unusable[path.name] = f"images of type {array.dtype} are not supported"


def _planes(report: FolderReport, array: NDArray[Any]) -> NDArray[Any] | None:
    """Return (C, [Z,] Y, X), or None where the axes are other than guessed."""
    if array.ndim != (len(report.axes) or 2):
        return None
    if "C" in report.axes:
        return np.moveaxis(array, report.axes.index("C"), 0)
    return array[None]


def _trouble(planes: NDArray[Any] | None, axes: str) -> str:
    """Say what is wrong with an image, or an empty string."""
    if planes is None:
        return f"its axes are not {axes or 'YX'}"
    if min(planes.shape[-2:]) < SMALLEST_SIDE:
        return f"only {planes.shape[-2]} x {planes.shape[-1]} pixels"
    if not np.isfinite(planes).all():
        return "pixels are NaN or infinite"
    if planes.min() == planes.max():
        return "all pixels have the same value"
    return ""


def _summarise(planes: NDArray[Any]) -> NDArray[np.float64]:
    """Per channel (C): minimum, maximum, exposure and contrast; shape (C, 4)."""
    flat = planes.reshape(len(planes), -1)
    dark, bright = np.percentile(flat, [0.1, 99.9], axis=1)
    columns = [flat.min(1), flat.max(1), bright - dark, flat.std(1, dtype=float)]
    return np.stack(columns, axis=1).astype(np.float64)


def _choose_channel(report: FolderReport, values: NDArray[np.float64]) -> None:
    """Take the channel of the highest mean contrast; `values` is (image, C, 4)."""
    if "C" in report.axes:
        contrast = values[:, :, 3].mean(axis=0)
        report.channel = int(contrast.argmax())
        if report.channels > 1 and np.ptp(contrast) <= 1e-6 * contrast.max():
            report.channel = 0
            report.axes_reason += "; the channels look alike (grey saved as colour)"
        else:
            report.axes_reason += f"; channel {report.channel} has most contrast"
    chosen = values[:, report.channel or 0]
    report.low, report.high = float(chosen[:, 0].min()), float(chosen[:, 1].max())
    _guess_scope(report, chosen[:, 2])


def _guess_scope(report: FolderReport, exposure: NDArray[np.float64]) -> None:
    """Guess the scope of normalisation from the contrast range of each image."""
    exposure = exposure[exposure > 0]
    if len(exposure) < 2:
        report.scope_reason = "one image"
        return
    dim, bright = np.percentile(exposure, [10, 90])
    ratio = float(bright / dim)
    report.scope = "image" if ratio > EXPOSURE_RATIO else "dataset"
    report.scope_reason = (
        f"the intensity range (0.1 to 99.9 %) of bright images is {ratio:.1f} times "
        f"that of dim ones (90th to 10th percentile of images); over "
        f"{EXPOSURE_RATIO:g} the rule is `image`, else `dataset`"
    )


def _label_folders(folder: Path) -> list[Path]:
    """Folders next to or inside `folder` that are named like labels."""
    folder = folder.resolve()
    candidates = []
    for place in (folder, folder.parent):
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue  # no right to list it: then there is nothing to propose
        for entry in entries:
            name = entry.name.lower()
            named = name in ("labels", "masks") or name.endswith(("_labels", "_masks"))
            if named and entry != folder and entry.is_dir():
                candidates.append(entry)
    return candidates


def _find_labels(report: FolderReport, paths: list[Path]) -> None:
    """Propose the label folder that fits most images, if its labels can be read."""
    stems = {file_stem(path): path for path in paths}
    best: dict[str, Path] = {}
    for candidate in _label_folders(report.path):
        try:
            files = list_images(candidate)[0]
        except PhantomscopeError:
            continue
        found = {file_stem(p): p for p in files if file_stem(p) in stems}
        if len(found) > len(best):
            best = found
    for stem, path in best.items():
        if stems[stem].name in report.unusable:
            continue
        try:
            shape = list(read_array(stems[stem]).shape)
            if "C" in report.axes:
                del shape[report.axes.index("C")]
            read_labels(path, tuple(shape))
        except PhantomscopeError as problem:
            report.notes.append(
                f"{path.parent} was left out, {path.name} is no label: {problem.what}"
            )
            return
        report.labels, report.labelled = path.parent, len(best)
        return


def inspect_folder(path: Path) -> FolderReport:
    """Look at the images of a folder and guess the options that fit.

    At most 500 images, spread evenly, are read, one at a time.

    Parameters
    ----------
    path : Path
        Folder of TIFF or PNG files, ([Z,] Y, X), perhaps with an axis of channels.

    Returns
    -------
    FolderReport
        Counts, sizes (px), dtypes, intensity range (units of the files), guesses
        with their reasons, and what cannot be used.

    Raises
    ------
    PhantomscopeError
        If the folder is missing, is a file, or holds no image that can be read.
    """
    paths, ignored = list_images(path, str(path))
    report = FolderReport(path, Counter(p.suffix.lower() for p in paths), ignored)
    chosen = [paths[i] for i in spread(len(paths), MOST_READ)]
    report.read = len(chosen)
    # Shapes are needed before channels can be told apart, hence two passes.
    kept: list[NDArray[np.float64]] = []
    examples: dict[tuple[int, ...], Path] = {}
    for file, array in _readable(chosen, report.unusable):
        report.shapes[array.shape] += 1
        examples.setdefault(array.shape, file)
        report.dtypes[str(array.dtype)] += 1
    if not report.shapes:
        name, what = next(iter(report.unusable.items()))
        raise PhantomscopeError(
            f"none of the {report.read} files can be read; {name}: {what}",
            where=path,
            fix="export them again as TIFF or PNG, 8 or 16 bit or 32 bit float",
        )
    guess = guess_axes(report.shapes, examples)
    report.axes, report.channels = guess.axes, guess.channels
    report.axes_reason = guess.reason
    report.notes += guess.notes
    with Progress("looking at images", total=len(chosen)) as progress:
        for file, array in _readable(chosen, report.unusable):
            planes = _planes(report, array)
            if trouble := _trouble(planes, report.axes):
                report.unusable[file.name] = trouble
            elif planes is not None and len(planes) == report.channels:
                kept.append(_summarise(planes))
            progress.advance()
    if kept:
        _choose_channel(report, np.stack(kept))
    if len({_stored_as(name) for name in report.dtypes}) > 1:
        names = ", ".join(f"{n} x {d}" for d, n in report.dtypes.most_common())
        report.notes.append(f"types are mixed ({names}): convert them to one")
    _find_labels(report, paths)
    return report


def _stored_as(dtype: str) -> str:
    return dtype if dtype in ("uint8", "uint16") else "float32"


def describe(report: FolderReport) -> str:
    """Return the report as text for the terminal."""
    kinds = {"uint8": "8-bit", "uint16": "16-bit", "float32": "32-bit float"}
    types = ", ".join(kinds.get(d, d) for d, _ in report.dtypes.most_common())
    spatial = Counter[str]()
    for shape, count in report.shapes.items():
        spatial[" x ".join(map(str, shape))] += count
    size, often = spatial.most_common(1)[0]
    sizes = size if len(spatial) == 1 else f"{len(spatial)} sizes ({often} of {size})"
    plural = "s" if report.images > 1 else ""
    lines = [f"found {report.images} image{plural}, {types}, {sizes}"]
    if report.read < report.images:
        lines.append(f"looked at {report.read} of them, spread evenly")
    lines.append(f"axes {report.axes or 'YX'}: {report.axes_reason}")
    if np.isfinite(report.low):
        lines.append(f"intensities {report.low:g} to {report.high:g}")
        lines.append(f"normalise.scope {report.scope}: {report.scope_reason}")
    lines.append(
        f"labels: {report.labels} ({report.labelled} of {report.images} images)"
        if report.labels
        else "labels: none found (looked for `labels`, `masks`, `*_labels`, `*_masks`)"
    )
    if report.ignored:
        others = ", ".join(f"{n} x {k}" for k, n in sorted(report.ignored.items()))
        lines.append(f"ignored: {others}; images end in {', '.join(SUFFIXES)}")
    lines += [f"note: {note}" for note in report.notes]
    if report.unusable:
        lines.append(f"{len(report.unusable)} cannot be used; mend or remove:")
        lines += [f"  {n}: {what}" for n, what in list(report.unusable.items())[:10]]
        if len(report.unusable) > 10:
            lines.append(f"  and {len(report.unusable) - 10} more")
    return "\n".join(lines)


def _quoted(path: Path) -> str:
    # A JSON string is a YAML string; absolute, so that it holds from anywhere.
    return json.dumps(str(path.resolve()), ensure_ascii=False)


def _volume_size(report: FolderReport) -> list[int]:
    """Size of synthetic volumes: that of the real ones, if they are not large."""
    shape = next(
        s for s, _ in report.shapes.most_common() if len(s) == len(report.axes)
    )
    sides = {axis: shape[report.axes.index(axis)] for axis in "ZYX"}
    return [min(sides[axis], most) for axis, most in SYNTHETIC_VOLUME.items()]


def write_config(report: FolderReport, target: Path, *, force: bool = False) -> str:
    """Write a commented config for the folder.

    Parameters
    ----------
    report : FolderReport
        What `inspect_folder` found.
    target : Path
        YAML file to write; `load_config` accepts it.
    force : bool
        Write over an existing file.

    Returns
    -------
    str
        Text for the terminal: what was found and decided.

    Raises
    ------
    PhantomscopeError
        If the file exists (without `force`) or cannot be written.
    """
    if target.exists() and not force:
        raise PhantomscopeError(
            "this config exists already",
            where=target,
            fix="give another name, move it away, or use --force to write over it",
        )
    found = describe(report)
    lines = ["# Written by looking into the folder; defaults apply to what is absent."]
    lines += [f"# {line}" for line in found.splitlines()]
    lines += ["source:", "  kind: folder", f"  path: {_quoted(report.path)}"]
    if report.labels:
        lines.append(f"  labels: {_quoted(report.labels)}")
    if report.axes:
        lines.append(f"  axes: {report.axes}  # {report.axes_reason}")
    if "C" in report.axes:
        lines.append(f"  channel: {report.channel or 0}  # counts from 0")
    lines += [
        "  # pixel_size_um: 0.5  # size of a pixel, if you know it",
        "  # group: 'plate(\\d+)'  # images of one plate, animal or video go together",
        "normalise:",
        f"  scope: {report.scope}  # {report.scope_reason or 'the default'}",
    ]
    if "Z" in report.axes:
        lines += [
            "simulate:",
            f"  size: {_volume_size(report)}  # depth, height, width",
        ]
    write_text(target, "\n".join(lines) + "\n")
    return f"{found}\nwrote {target}"
