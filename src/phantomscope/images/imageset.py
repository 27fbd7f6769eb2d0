"""The image set: what every stage between acquisition and tables reads and writes.

A folder with `manifest.csv` (one row per image), `info.json` (source, licence,
citation, how it was made) and lossless OME-TIFF files. Nothing loads a whole set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.axes import parse_planes, voxel_size
from phantomscope.images.files import (
    pixel_hash,
    read_array,
    read_json,
)
from phantomscope.images.volumes import PlaneReader

COLUMNS = (
    "id", "image", "mask", "split", "group", "axes", "height", "width", "pixel_size",
    "pixel_unit", "dtype", "low", "high", "seed", "sha256", "mask_sha256",
)  # fmt: skip
# Never read as numbers: an id such as "007" would lose its zeros.
TEXT_COLUMNS = frozenset({
    "id", "image", "mask", "split", "group", "axes", "pixel_unit", "dtype", "sha256",
    "mask_sha256", "parent", "stratum", "type", "limits", "truth", "annotated_planes",
    "tracks", "target", "target_sha256", "cells", "cells_sha256", "others",
    "others_sha256", "plate", "well", "compound", "cell_line", "channel_names",
    "control", "time_unit", "published_split",
})  # fmt: skip
# Labels of a second kind, beside `mask`.
LABELS = ("cells", "others")


@dataclass(frozen=True)
class ImageSet:
    """A set of images on disk.

    Attributes
    ----------
    folder : Path
        Where `manifest.csv` lies; image paths are relative to it.
    table : pandas.DataFrame
        The manifest, indexed by image id. `image` and `mask` are paths (`mask` is
        empty without annotation), `group` is the unit of statistics, `low` and `high`
        are the intensity range, `sha256` hashes pixels. Stages add columns. `axes` are
        those of space; where `channels` says more than 1, the image file has them
        before these.
    info : dict
        Source, licence, citation and provenance.
    channel : int
        Which of several channels `image` reads.
    """

    folder: Path
    table: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)
    channel: int = 0

    @classmethod
    def open(cls, folder: Path | str, most: int | None = None) -> ImageSet:
        """Open a set; only the manifest is read.

        Parameters
        ----------
        folder : Path
            Holds `manifest.csv`.
        most : int, optional
            Keep at most so many images, evenly spread, and no more in memory.
        """
        folder = Path(folder)
        manifest = folder / "manifest.csv"
        with explain_os_errors(manifest):
            every = 1 if most is None else -(-_count_rows(manifest) // most)
            try:
                # Only an empty cell is missing: an image may be called "NA".
                table = pd.read_csv(
                    manifest,
                    dtype=dict.fromkeys(TEXT_COLUMNS, str),
                    keep_default_na=False,
                    na_values=[""],
                    # The header is line 0.
                    skiprows=None
                    if every <= 1
                    else lambda line: line > 0 and (line - 1) % every > 0,
                )
            except (ValueError, UnicodeDecodeError) as error:
                raise PhantomscopeError(
                    f"this manifest is broken ({error})",
                    where=manifest,
                    fix="delete its folder and run the same command again",
                ) from error
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise PhantomscopeError(
                f"this manifest lacks the columns {', '.join(missing)}",
                where=manifest,
                fix="delete its folder and run the same command again",
            )
        for name in sorted(TEXT_COLUMNS & set(table.columns)):
            table[name] = table[name].fillna("").astype(object)
        _check_cells(table, manifest)
        duplicates = table["id"][table["id"].duplicated()]
        if len(duplicates):
            raise PhantomscopeError(
                f"the id {duplicates.iloc[0]!r} occurs twice",
                where=manifest,
                fix="delete its folder and run the same command again",
            )
        info_file = folder / "info.json"
        info = read_json(info_file) if info_file.exists() else {}
        return cls(folder, table.set_index("id", drop=False), info)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table["id"])

    @property
    def ids(self) -> list[str]:
        """Ids in the order of the manifest."""
        return list(self.table["id"])

    def select(self, **values: object) -> ImageSet:
        """Return the images whose columns have these values, such as split="train"."""
        keep = np.ones(len(self.table), bool)
        for column, value in values.items():
            keep &= (self.table[column] == value).to_numpy()
        return replace(self, table=self.table[keep])

    def having(self, *columns: str) -> ImageSet:
        """Return this set if its manifest has these columns, filled in every row."""
        for name in columns:
            if name not in self.table or (self.table[name] == "").any():
                raise PhantomscopeError(
                    f"this manifest does not say the {name} of each image",
                    where=self.folder / "manifest.csv",
                    fix="give the folder that the stage before writes, not another set",
                )
        return self

    def row(self, identifier: str) -> dict[str, Any]:
        """Return the manifest row of one image."""
        if identifier not in self.table.index:
            raise PhantomscopeError(
                f"there is no image {identifier!r} in this set",
                where=self.folder / "manifest.csv",
                fix="the sets do not belong together: run the stage that makes this "
                "one again",
            )
        return {str(k): v for k, v in self.table.loc[identifier].items()}

    def shape(self, identifier: str) -> tuple[int, ...]:
        """Return the size of one image, ([Z,] Y, X)."""
        return _shape(self.row(identifier))

    def voxel_size(self, identifier: str) -> tuple[float, ...] | None:
        """Return the size of a pixel along ([z,] y, x) in um; None if unknown."""
        return voxel_size(self.row(identifier))

    def annotated_planes(self, identifier: str) -> list[int] | None:
        """Return the planes of a volume whose labels are known; None for all.

        In sparsely annotated volumes the labels of all other planes are 0, whatever
        is there.
        """
        text = str(self.row(identifier).get("annotated_planes", ""))
        try:
            return parse_planes(text) or None
        except ValueError as error:
            raise PhantomscopeError(
                f"the annotated planes of {identifier!r} make no sense: {error}",
                where=self.folder / "manifest.csv",
                fix="delete its folder and run the same command again",
            ) from error

    @property
    def dims(self) -> int:
        """Dimensions of the images: 2, or 3 for volumes.

        Raises
        ------
        PhantomscopeError
            If there are both, or none at all.
        """
        found = {len(self.shape(i)) for i in self.ids}
        if len(found) != 1:
            what = "images and volumes" if found else "no image"
            raise PhantomscopeError(
                f"there are {what} in this set",
                where=self.folder / "manifest.csv",
                fix="put images and volumes into sets of their own",
            )
        return found.pop()

    def image(self, identifier: str) -> NDArray[Any]:
        """Read one image, shape ([Z,] Y, X), as stored; of several its `channel`.

        What looks for the objects of an image looks at this channel.
        """
        image: NDArray[Any] = self.channels(identifier)[self.channel]
        return image

    def channels(self, identifier: str) -> NDArray[Any]:
        """Read all channels of one image, shape (C, [Z,] Y, X), as stored."""
        row = self.row(identifier)
        image = self._read(row, "image", count_channels(row))
        return image if count_channels(row) > 1 else image[None]

    def planes(self, identifier: str, column: str = "image") -> PlaneReader:
        """Open a volume, or with ``mask`` its labels, to read it plane by plane.

        Of several channels the first.
        """
        row = self.row(identifier)
        count = count_channels(row) if column == "image" else 1
        return PlaneReader(self._path(row, column), _shape(row), count)

    def _path(self, row: Mapping[str, Any], column: str) -> Path:
        path = self.folder / str(row[column])
        if not path.exists():
            raise PhantomscopeError(
                f"there is no such file, but {self.folder / 'manifest.csv'} names it",
                where=path,
                fix="put it back, or run the stage that makes it again",
            )
        return path

    def _read(
        self, row: Mapping[str, Any], column: str, channels: int = 1
    ) -> NDArray[Any]:
        path = self._path(row, column)
        array = read_array(path)
        expected = (channels, *_shape(row)) if channels > 1 else _shape(row)
        if array.shape != expected:
            raise PhantomscopeError(
                f"the image is {array.shape}, the manifest records {expected}",
                where=path,
                fix="put it back, or run the stage that makes it again",
            )
        return array

    def has_mask(self, identifier: str) -> bool:
        """Whether this image has annotation."""
        return bool(self.row(identifier)["mask"])

    def mask(self, identifier: str) -> NDArray[Any]:
        """Read the labels of one image, shape ([Z,] Y, X); 0 is background."""
        fix = "give `source.labels`, or leave out what needs annotation"
        return self._beside(identifier, "mask", "labels", fix)

    def target(self, identifier: str) -> NDArray[Any]:
        """Read what one image is to become, on the same grid, shape ([Z,] Y, X).

        Sets of pairs have it: the super-resolution image behind a widefield one.
        """
        fix = "give a folder that `make-pairs` writes"
        return self._beside(identifier, "target", "target", fix)

    def cells(self, identifier: str) -> NDArray[Any]:
        """Read the labels of whole cells, shape (Y, X), whose nuclei `mask` has."""
        fix = "choose images whose column `cells` is filled"
        return self._beside(identifier, "cells", "labels of whole cells", fix)

    def others(self, identifier: str) -> NDArray[Any]:
        """Read the labels of other objects than those of `mask`, shape (Y, X).

        Composed sets have them: objects of the other layer.
        """
        fix = "give a folder that `compose-set` writes for tests"
        return self._beside(identifier, "others", "labels of other objects", fix)

    def _beside(
        self, identifier: str, column: str, what: str, fix: str
    ) -> NDArray[Any]:
        """Read what a column names beside an image; `what` and `fix` if it has none."""
        row = self.row(identifier)
        if not row.get(column):
            raise PhantomscopeError(
                f"the image {identifier!r} has no {what}",
                where=self.folder / "manifest.csv",
                fix=fix,
            )
        return self._read(row, column)

    def seen(self, channel: int, labels: str) -> ImageSet:
        """Return the same images as one channel, with one kind of labels as `mask`.

        Parameters
        ----------
        channel : int
            The channel that `image` reads.
        labels : {"mask", "cells", "others"}
            Column of the labels; images without them have none.
        """
        table = self.table
        # What a set lacks altogether has no column.
        own = {
            name: table.get(name.replace("mask", labels), "")
            for name in ("mask", "mask_sha256")
        }
        return replace(self, table=table.assign(**own), channel=channel)

    def without_masks(self) -> ImageSet:
        """Return the same images as if nobody had annotated them."""
        empty = {"mask": "", "mask_sha256": ""}
        for name in LABELS:
            if name in self.table:
                empty |= {name: "", f"{name}_sha256": ""}
        return replace(self, table=self.table.assign(**empty))

    def verify(self) -> None:
        """Compare every file with its hash in the manifest."""
        for identifier in self.ids:
            row = self.row(identifier)
            image = self._read(row, "image", count_channels(row))
            pairs = [(row["image"], row["sha256"], image)]
            if row["mask"]:
                pairs.append((row["mask"], row["mask_sha256"], self.mask(identifier)))
            pairs += [
                (row[name], row[f"{name}_sha256"], self._read(row, name))
                for name in ("target", *LABELS) if row.get(name)
            ]  # fmt: skip
            for path, expected, array in pairs:
                if pixel_hash(array) != expected:
                    raise PhantomscopeError(
                        "the pixels are not those that the manifest records",
                        where=self.folder / path,
                        fix="delete the folder and run the same command again",
                    )


def count_channels(row: Mapping[str, Any]) -> int:
    """Channels of an image, by its manifest row: 1 where nothing is said."""
    try:
        return max(int(row.get("channels", 1)), 1)
    except (TypeError, ValueError):
        return 1  # an empty cell


def _shape(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Size of an image; volumes have a depth."""
    depth = (int(row["depth"]),) if row["axes"] == "ZYX" else ()
    return (*depth, int(row["height"]), int(row["width"]))


def _count_rows(manifest: Path) -> int:
    """Count the lines below the header."""
    with manifest.open("rb") as stream:
        return sum(1 for _ in stream) - 1


def _check_cells(table: pd.DataFrame, manifest: Path) -> None:
    """Refuse rows that somebody's edit left without a name, a file or a size."""
    sizes = table[["height", "width"]].apply(pd.to_numeric, errors="coerce")
    depth = pd.to_numeric(table.get("depth", pd.Series(0, table.index)), "coerce")
    for name, bad in (
        # An id becomes the name of a file.
        ("id", ~table["id"].str.fullmatch(r"[^./\\][^/\\]*").astype(bool)),
        ("image", table["image"] == ""),
        ("height", ~(sizes["height"] >= 1)),
        ("width", ~(sizes["width"] >= 1)),
        ("depth", (table["axes"] == "ZYX") & ~(depth >= 1)),
    ):
        if bad.any():
            # The header is the first line.
            line = int(np.flatnonzero(bad)[0]) + 2
            raise PhantomscopeError(
                f"this manifest has no proper `{name}` in line {line}",
                where=manifest,
                fix="delete its folder and run the same command again",
            )
