"""Miniatures of localisation tables, each in the layout of its publisher."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.acquire.localisations.smlm import MANIFEST
from phantomscope.acquire.localisations.write import (
    LAYOUT,
    ROWS,
    manifest_of,
    packed_rows,
)

Columns = dict[str, Any]

THUNDERSTORM = (
    '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]",'
    '"offset [photon]","bkgstd [photon]","chi2","uncertainty_xy [nm]"\n'
    "1,1,7057.682,31836.993,236.96,4933.487,0,6.576,14270506.039,9.476\n"
    "2,7,7271.647,31422.428,49.651,148.889,90.469,6.991,16130940.02,14.641\n"
)
RAPIDSTORM = (
    '# <localizations insequence="true" repetitions="variable">'
    '<field identifier="Position-0-0" syntax="floating point with . for decimals and '
    'optional scientific e-notation" semantic="position in sample space in X" '
    'unit="nanometer" min="0 m" max="8.442e-006 m" />'
    '<field identifier="Position-0-0-uncertainty" unit="nanometer" />'
    '<field identifier="Position-1-0" semantic="position in sample space in Y" '
    'unit="nanometer" min="0 m" max="8.442e-006 m" />'
    '<field identifier="Position-1-0-uncertainty" unit="nanometer" />'
    '<field identifier="ImageNumber-0-0" syntax="integer" semantic="frame number" '
    'unit="frame" min="0 fr" />'
    '<field identifier="Amplitude-0-0" semantic="emission strength" '
    'unit="A/D count" />'
    '<field identifier="LocalBackground-0-0" unit="A/D count" /></localizations>\n'
    "7057.7 3 1836.9 4 1 880 20\n7271.6 6 1422.4 8 7 60 19\n"
)
SMAP = (
    "frame,xnm,ynm,znm,phot,bg,locprecnm,locprecznm\n"
    "1,7057.7,1836.9,-20.5,4933.5,12.5,9.5,30\n7,7271.6,1422.4,310,148.9,80,14.6,44\n"
)


def write_smlm(
    path: Path,
    columns: Columns,
    *,
    units: list[str] | None = None,
    more: dict[str, bytes] | None = None,
    cut: int = 0,
    change: dict[str, Any] | None = None,
    **entry: Any,
) -> Path:
    """Write one table as ShareLoc does; `change` replaces entries of the manifest."""
    packed = packed_rows(columns)
    manifest = manifest_of(packed)
    manifest["formats"][LAYOUT]["units"] = units or []
    manifest["files"][0] |= {"channel": "alexa647", "exposure": 20} | entry
    manifest["files"].append({"name": "t.png", "type": "image", "format": "png"})
    manifest |= change or {}
    content = packed.tobytes()
    files = {
        MANIFEST: json.dumps(manifest).encode(),
        ROWS: content[: len(content) - cut],
        "t.png": b"png",
        **(more or {}),
    }
    path.write_bytes(zipped(files))
    return path


def zipped(files: dict[str, bytes]) -> bytes:
    """Pack files in this order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def write_picasso(path: Path, columns: Columns, *, yaml: str = "", **more: Any) -> Path:
    """Write one table as Picasso does; `more` are further datasets."""
    import h5py

    arrays = {name: np.asarray(values) for name, values in columns.items()}
    table = np.rec.fromarrays(list(arrays.values()), names=list(arrays))
    with h5py.File(path, "w") as file:
        file.create_dataset("locs", data=table)
        for name, value in more.items():
            file.create_dataset(name, data=value)
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    return path
