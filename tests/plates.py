"""A small Cell Painting Gallery in the exact layout of the big one.

    gallery = Gallery(tmp_path / "bucket")
    options = gallery.options(address=str(gallery.root))

Numbers of channels differ from plate to plate, so that nobody can know them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.acquire.plates import acquire_plates, fetch_plates, survey_plates
from phantomscope.acquire.web import Patience
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator

SIZE = (48, 64)
PROJECT = "cpg0000-jump-pilot/source_4"
BATCH = "2020_11_04_CPJUMP1"
PLATES = (
    "BR00116991__2020-11-05T19_51_35-Measurement1",
    "BR00116995__2020-11-06T02_41_05-Measurement1",
)
WELLS = ("A01", "B02")
SITES = (1, 2)
STAINS = ("Mito", "AGP", "RNA", "ER", "DNA")
# Name of the channel, that in load_data.csv, that of the microscope, height in m.
CHANNELS = (
    ("Mito", "OrigMito", "Alexa 647", "-4E-06"),
    ("AGP", "OrigAGP", "Alexa 568", "-4E-06"),
    ("RNA", "OrigRNA", "488 long", "-4E-06"),
    ("ER", "OrigER", "Alexa 488", "-4E-06"),
    ("DNA", "OrigDNA", "HOECHST 33342", "-4E-06"),
    ("BrightfieldHigh", "OrigHighZBF", "Brightfield H", "7E-06"),
    ("BrightfieldLow", "OrigLowZBF", "Brightfield L", "-4E-06"),
    ("Brightfield", "OrigBrightfield", "Brightfield CP", "0"),
)
# Which number each of them has.
NUMBERS = {PLATES[0]: (1, 2, 3, 4, 5, 6, 7, 8), PLATES[1]: (8, 3, 2, 5, 4, 7, 1, 6)}
COMPOUNDS = {"A01": "BRD-K11111111-001-02-3", "B02": ""}
PIXEL = "5.9797E-07"
# A busy machine is slow to answer.
IMPATIENT = Patience(timeout=30, attempts=4, pause=0.01)


def place(well: str) -> tuple[int, int]:
    return ord(well[0]) - 64, int(well[1:])


def file_name(plate: str, well: str, site: int, channel: str) -> str:
    row, column = place(well)
    names = [name for name, *_ in CHANNELS]
    number = NUMBERS[plate][names.index(channel)]
    return f"r{row:02}c{column:02}f{site:02}p01-ch{number}sk1fk1fl1.tiff"


def pixels(plate: str, well: str, site: int, channel: str) -> NDArray[np.uint16]:
    """What is on an image; each differs from every other."""
    random = generator("gallery", plate, well, site, channel)
    return random.integers(200, 4000, SIZE, np.uint16)


def instances() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Nuclei and the cells around them."""
    nuclei, cells = np.zeros((2, *SIZE), np.uint16)
    for number, left in enumerate((4, 26, 46), 1):
        cells[8:32, left : left + 16] = number
        nuclei[14:24, left + 4 : left + 11] = number
    return nuclei, cells


def outlines(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels inside an object beside one that is not of it."""
    return (labels > 0) & (ndimage.grey_erosion(labels, 3) != labels)


def to_instances(lines: NDArray[np.bool_]) -> NDArray[Any]:
    """Number what closed lines enclose; here they never touch."""
    filled = ndimage.binary_fill_holes(lines)
    return np.asarray(ndimage.label(filled)[0])


def _element(plate: str, well: str, site: int, number: int, newer: bool) -> str:
    name, _, label, height = CHANNELS[number]
    row, column = place(well)
    url = file_name(plate, well, site, name)
    said = "" if newer else (
        f"<ChannelName>{label}</ChannelName>"
        f'<ImageResolutionX Unit="m">{PIXEL}</ImageResolutionX>'
    )  # fmt: skip
    return (
        f'<Image Version="1"><id>x</id><State>Ok</State><URL>{url}</URL><Row>{row}'
        f"</Row><Col>{column}</Col><FieldID>{site}</FieldID><PlaneID>1</PlaneID>"
        f"<ChannelID>{NUMBERS[plate][number]}</ChannelID>{said}"
        f'<PositionZ Unit="m">{height}</PositionZ></Image>'
    )


class Gallery:
    """The files below `root`, which are made unless they are there."""

    def __init__(
        self, root: Path, plates: Sequence[str] = PLATES,
        wells: Sequence[str] = WELLS, sites: Sequence[int] = SITES,
    ) -> None:  # fmt: skip
        self.root, self.plates = root, plates
        self.wells, self.sites = wells, sites
        if root.exists():
            return  # a copy
        for plate in plates:
            self.write_images(plate)
            self.write_load_data(plate)
            self.write_index(plate)
            self.write_outlines(plate)
        self.write_plate_maps()

    def options(self, **changes: Any) -> Plates:
        content = {
            "kind": "gallery",
            "address": str(self.root),
            "plates": list(self.plates),
            "wells": list(self.wells),
            "size": SIZE,
            "sites_per_well": len(self.sites),
            "rows": 2,
            "columns": 2,
            "downloads": str(self.root.parent / "downloads"),
        }
        return Plates(**{**content, **changes})

    def path(self, *parts: str) -> Path:
        path = self.root.joinpath(PROJECT, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, plate: str, well: str, site: int, channel: str) -> Path:
        name = file_name(plate, well, site, channel)
        return self.path("images", BATCH, "images", plate, "Images", name)

    def load_data(self, plate: str) -> Path:
        barcode = barcode_of(plate)
        return self.path("workspace/load_data_csv", BATCH, barcode, "load_data.csv")

    def index(self, plate: str) -> Path:
        return self.path("images", BATCH, "images", plate, "Images/Index.idx.xml")

    def outline(self, plate: str, well: str, site: int, kind: str) -> Path:
        barcode = barcode_of(plate)
        return self.path(
            "workspace/analysis", BATCH, barcode, "analysis",
            f"{barcode}-{well}-{site}/outlines/{well}_s{site}--{kind}_outlines.png",
        )  # fmt: skip

    def flat_field(self, plate: str, channel: str) -> Path:
        barcode = barcode_of(plate)
        name = {n: orig.removeprefix("Orig") for n, orig, *_ in CHANNELS}[channel]
        return self.path(
            "images", BATCH, "illum", barcode, f"{barcode}_Illum{name}.npy"
        )

    def write_images(self, plate: str) -> None:
        for well in self.wells:
            for site in self.sites:
                for channel, *_ in CHANNELS:
                    self.write_image(plate, well, site, channel)

    def write_image(
        self, plate: str, well: str, site: int, channel: str,
        array: NDArray[Any] | None = None,
    ) -> Path:  # fmt: skip
        path = self.image(plate, well, site, channel)
        array = pixels(plate, well, site, channel) if array is None else array
        tifffile.imwrite(path, array, compression="lzw")
        return path

    def rows(self, plate: str) -> list[dict[str, Any]]:
        """Rows of load_data.csv, with paths of the machine that wrote it."""
        folder = f"/home/ubuntu/bucket/{BATCH}/images/{plate}/Images"
        rows = []
        for well in self.wells:
            for site in self.sites:
                row: dict[str, Any] = {}
                for channel, orig, *_ in CHANNELS:
                    row[f"FileName_{orig}"] = file_name(plate, well, site, channel)
                    row[f"PathName_{orig}"] = folder
                row |= {"Metadata_Plate": barcode_of(plate), "Metadata_Well": well}
                rows.append(row | {"Metadata_Site": site})
        return rows

    def write_load_data(
        self, plate: str, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        rows = self.rows(plate) if rows is None else rows
        with self.load_data(plate).open("w", newline="") as stream:
            table = csv.DictWriter(stream, rows[0])
            table.writeheader()
            table.writerows(rows)

    def write_index(self, plate: str, *, newer: bool = False) -> None:
        images = "".join(
            _element(plate, well, site, number, newer)
            for well in self.wells
            for site in self.sites
            for number in range(len(CHANNELS))
        )
        entries = "".join(
            f'<Entry ChannelID="{NUMBERS[plate][number]}"><ChannelName>{label}'
            f'</ChannelName><ImageResolutionX Unit="m">{PIXEL}</ImageResolutionX>'
            "</Entry>"
            for number, (_, _, label, _) in enumerate(CHANNELS)
        )
        maps = f"<Maps><Map>{entries}</Map></Maps>" if newer else ""
        space = "http://www.perkinelmer.com/PEHH/HarmonyV5"
        # Harmony writes a byte order mark.
        self.index(plate).write_text(
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<EvaluationInputData xmlns="{space}">'
            f"<Plates><Plate><PlateID>x</PlateID></Plate></Plates>{maps}"
            f"<Images>{images}</Images></EvaluationInputData>",
            encoding="utf-8-sig",
        )

    def write_outlines(self, plate: str) -> None:
        nuclei, cells = instances()
        for well in self.wells:
            for site in self.sites:
                for kind, labels in (("nuclei", nuclei), ("cell", cells)):
                    path = self.outline(plate, well, site, kind)
                    imageio.imwrite(path, outlines(labels).astype(np.uint8) * 255)

    def write_plate_maps(self) -> None:
        name = "JUMP-Target-1_compound_platemap"
        folder = self.path("workspace/metadata/platemaps", BATCH, "x").parent
        (folder / "platemap").mkdir(parents=True, exist_ok=True)
        lines = [f"{barcode_of(plate)},{name}" for plate in self.plates]
        table = "\n".join(["Assay_Plate_Barcode,Plate_Map_Name", *lines])
        (folder / "barcode_platemap.csv").write_text(table + "\n")
        wells = [f"{well}\t{COMPOUNDS.get(well, '')}\n" for well in self.wells]
        text = "well_position\tbroad_sample\n" + "".join(wells)
        (folder / "platemap" / f"{name}.txt").write_text(text)

    def write_flat_fields(self, plate: str, array: NDArray[Any]) -> None:
        for channel, *_ in CHANNELS:
            np.save(self.flat_field(plate, channel), array)


# Artefacts that have a place in these images, which are of 29 x 38 um.
SMALL_ARTEFACTS = {"dust_um": [2, 3], "debris_um": [5, 6], "debris_blur_um": 1}


def small_plates(address: str) -> dict[str, Any]:
    """Return the options of plates that are as small as these."""
    return {
        "address": address, "size": list(SIZE), "sites_per_well": len(SITES),
        "rows": 2, "columns": 2,
    }  # fmt: skip


def make(options: Plates, folder: Path, name: str = "set", **how: Any) -> ImageSet:
    """Fetch and acquire."""
    survey, record = folder / f"{name}-survey.json", folder / f"{name}.json"
    survey_plates(options, survey, patience=IMPATIENT)
    fetch_plates(options, survey, record, patience=IMPATIENT, **how)
    acquire_plates(options, record, folder / name, to_instances, seed=0)
    return ImageSet.open(folder / name)


def refused(options: Plates, folder: Path) -> str:
    """The message; no set is left."""
    with pytest.raises(PhantomscopeError) as caught:
        make(options, folder)
    assert caught.value.fix
    assert not (folder / "set").exists()
    return str(caught.value)
