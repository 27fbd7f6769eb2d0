"""The real nuclei that come inside the StarDist package: the demo needs no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_image, read_labels
from phantomscope.images.writer import ImageSetWriter

INFO = {
    "source": "package",
    "name": "img2d.tif and mask2d.tif of the Python package stardist",
    "licence": "distributed with StarDist under BSD-3-Clause",
    "origin": "fluorescence image from the 2018 Data Science Bowl",
    "citation": (
        "Schmidt et al., Cell Detection with Star-convex Polygons, MICCAI 2018; "
        "Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 "
        "Data Science Bowl, Nature Methods 16, 2019"
    ),
}


def find_package_images() -> Path:
    """Return the folder of images inside the installed StarDist package.

    Raises
    ------
    PhantomscopeError
        If StarDist is not installed or lacks its images.
    """
    # `find_spec` of a top-level name runs no code: importing StarDist would load
    # TensorFlow, seconds and gigabytes for two small files.
    spec = importlib.util.find_spec("stardist")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise PhantomscopeError(
            "the packaged images are part of StarDist, which is not installed",
            where="source.kind",
            fix="pip install stardist, or use images of your own",
            example="source:\n  kind: folder\n  path: my_images",
        )
    folder = Path(places[0]) / "data" / "images"
    missing = [n for n in ("img2d.tif", "mask2d.tif") if not (folder / n).is_file()]
    if missing:
        raise PhantomscopeError(
            f"the installed StarDist lacks {' and '.join(missing)}",
            where=folder,
            fix="pip install --force-reinstall --no-deps stardist",
        )
    return folder


def acquire_package(folder: Path) -> None:
    """Make an image set of the packaged nuclei.

    One image, id ``nuclei``, (Y, X) 512 x 512, uint16, intensities 0 to 235 in
    arbitrary units, pixel size unknown; labels (Y, X) uint16 of 125 nuclei.

    Parameters
    ----------
    folder : Path
        Folder of the new set.

    Raises
    ------
    PhantomscopeError
        If StarDist is not installed or the folder cannot be written.
    """
    source = find_package_images()
    image = read_image(source / "img2d.tif")
    labels = read_labels(source / "mask2d.tif", image.shape)
    with ImageSetWriter(folder, INFO) as writer:
        if "nuclei" not in writer:
            stratum = f"{image.shape[0]}x{image.shape[1]}"
            writer.add("nuclei", image, labels, stratum=stratum)
