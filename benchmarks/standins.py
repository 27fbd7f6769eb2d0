"""Folders of real images that stand in for the data sets of a paper.

    python -m benchmarks.standins ../shared/data data/stand-ins [--only layers]

Small published volumes with annotation, laid out as `source: {kind: folder}` reads
them: `<organism>/images/NAME.tif` and `<organism>/labels/NAME.tif`. And simulated
tables of localisations, whose photons, precision and blinking are measured on real
ones, for `source: {kind: localisations, path: <folder>/<organism>}`. Those of semantic
filtering (`layers`) are described in `benchmarks.standins_layers`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks.standins_layers import lay_out_layers
from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.stages.localising import simulate_tables

Array = NDArray[Any]


def _read(path: Path) -> Array:
    if not path.exists():
        raise PhantomscopeError(
            "there is no such file",
            where=path,
            fix="give the folder that holds the collections of real images",
        )
    return np.asarray(tifffile.imread(path))


def split_touching(mask: Array, centres: Array) -> Array:
    """Return labels of a binary mask whose objects touch, one for each centre.

    Parameters
    ----------
    mask : ndarray, shape (Z, Y, X)
        Foreground.
    centres : ndarray, shape (Z, Y, X)
        Where the objects have their centres; touching voxels are one centre.
    """
    seeds, count = ndimage.label(centres > 0, np.ones((3, 3, 3)))
    if not count:
        raise ValueError("there is no centre")
    inside = ndimage.distance_transform_edt(mask > 0)
    return np.asarray(watershed(-inside, seeds, mask=mask > 0), np.uint16)


def ovule_membranes(data: Path) -> tuple[Array, Array]:
    """A. thaliana ovule, cell walls: for the meristem."""
    folder = data / "B-plantseg-ovule-membrane"
    return _read(folder / "raw.tif"), _read(folder / "labels.tif")


def embryo_nuclei(data: Path) -> tuple[Array, Array]:
    """Mouse embryo of sixteen cells, nuclei: for C. elegans."""
    folder = data / "B-qcanet-mouse-embryo-nuclei"
    mask, centres = (
        _read(folder / f"{name}_16cell.tif") for name in ("mask", "centres")
    )
    return _read(folder / "raw_16cell.tif"), split_touching(mask, centres)


def ovule_nuclei(data: Path) -> tuple[Array, Array]:
    """A. thaliana ovule, nuclei: for T. castaneum."""
    folder = data / "B-plantseg-ovule-nuclei"
    labels = _read(folder / "labels_1135.tif")
    return _read(folder / "raw_1135.tif"), labels.astype(np.uint16)


STAND_INS = {"ath": ovule_membranes, "ce": embryo_nuclei, "tric": ovule_nuclei}


def lay_out(data: Path, folder: Path) -> None:
    """Write the stand-ins of all organisms that have one."""
    for organism, read in STAND_INS.items():
        image, labels = read(data)
        for name, array in (("images", image), ("labels", labels)):
            path = folder / organism / name / f"{organism}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")
        shown = {"shape": image.shape, "objects": len(np.unique(labels)) - 1}
        print(f"{organism}: {read.__doc__} {json.dumps(shown)}")


# Real tables by ThunderSTORM: LacY-eYFP in E. coli, Smit et al., PLOS ONE 2019. Their
# camera multiplies electrons and has pixels of 80 nm; the median of their column of
# sigma is the width of the spot.
TABLES = "C-colicoords-lacY-eYFP-smlm"
CAMERA = {"pixel": 80.0, "excess": 2.0, "psf_sigma": 98.0}
# As many tables, and pixels of the images, as in Saguy et al.; TOM22 is all over the
# wall of a mitochondrion, whose circumference is 13 times that of a microtubule.
LOCALISED: dict[str, dict[str, Any]] = {
    "microtubules": {"images": 12, "structures": {"pixel": 27.0}},
    "mitochondria": {
        "images": 5, "structures": {"pixel": 32.0, "labelling": {"density": 500.0}},
    },
}  # fmt: skip
SIDE = 740  # px


def localise_structures(data: Path, folder: Path) -> None:
    """Write simulated tables of both structures, calibrated on real ones in turn."""
    real = sorted((data / TABLES).glob("*.csv.gz"))
    if not real:
        raise PhantomscopeError(
            "there are no tables of real localisations",
            where=data / TABLES,
            fix="give the folder that holds the collections of real images",
        )
    for organism, options in LOCALISED.items():
        begin = time.perf_counter()
        structures = {**options["structures"], "blinking": CAMERA}
        simulate = {
            "organism": organism, "images": options["images"], "size": [SIDE, SIDE],
            "structures": structures,
        }  # fmt: skip
        simulate_tables(
            make_config({"simulate": simulate}),
            tables=folder / organism,
            calibrate=real,
        )
        paths = list((folder / organism).glob("*.csv.gz"))
        shown = {
            "tables": len(paths),
            "megabytes": round(sum(p.stat().st_size for p in paths) / 1e6, 1),
            "seconds": round(time.perf_counter() - begin, 1),
        }
        print(f"{organism}: simulated tables, calibrated {json.dumps(shown)}")


# One field with brightfield, five stains and outlines of CellProfiler.
PAINTED = "D-cellpainting-brightfield-BR00143976"


def copy_field(data: Path, folder: Path) -> None:
    """Lay out the field of Cell Painting as it is."""
    files = sorted((data / PAINTED).glob("*.tif"))
    if not files:
        raise PhantomscopeError(
            "there is no field of Cell Painting",
            where=data / PAINTED,
            fix="give the folder that holds the collections of real images",
        )
    target = folder / "cell-painting"
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, target / file.name)
    print(f"cell-painting: {', '.join(file.name for file in files)}")


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "volumes": lay_out, "localisations": localise_structures, "field": copy_field,
    "layers": lay_out_layers,
}  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the collections")
    parser.add_argument("folder", type=Path, help="where to lay them out")
    parser.add_argument("--only", choices=list(KINDS), help="lay out these alone")
    given = parser.parse_args()
    for name in [given.only] if given.only else KINDS:
        KINDS[name](given.data, given.folder)


if __name__ == "__main__":
    main()
