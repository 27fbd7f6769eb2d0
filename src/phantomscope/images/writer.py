"""Writing image sets: under a temporary name, taken up where it was killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.axes import PixelSize, size_columns
from phantomscope.images.files import (
    check_replaceable,
    pixel_hash,
    read_json,
    replace_folder,
    write_json,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import COLUMNS
from phantomscope.images.journal import journal_line, whole_rows
from phantomscope.images.volumes import PlaneReader, write_volume
from phantomscope.locks import only_writer


def write_manifest(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Write `manifest.csv` and `info.json` of a set.

    `columns` are there even without any row.
    """
    names = dict.fromkeys([*COLUMNS, *columns, *(key for row in rows for key in row)])
    table = pd.DataFrame(rows, columns=list(names))
    write_json(folder / "info.json", dict(info))
    write_text(folder / "manifest.csv", table.to_csv(index=False))


class ImageSetWriter:
    """Writes a set under a temporary name and renames it when it is complete.

    A writer that was killed is taken up where it stopped: images that are complete
    under the temporary name are kept if `info` is the same and their pixels are those
    that were written.

    Parameters
    ----------
    folder : Path
        Final folder of the set.
    info : Mapping
        Content of `info.json`: everything that shaped the set.
    resume : bool
        Whether to take up such a set; else it is begun anew.

    While it is open, it is the only writer of this set: another one waits.

    Examples
    --------
    >>> with ImageSetWriter(folder, {"source": "mine"}) as writer:  # doctest: +SKIP
    ...     writer.add("a", image, mask, split="train")
    """

    def __init__(
        self, folder: Path | str, info: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.resume = resume
        self.info = json.loads(json.dumps(dict(info)))
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        self.rows: dict[str, dict[str, Any]] = {}

    @property
    def _journal(self) -> Path:
        return self.partial / "journal.jsonl"

    def __enter__(self) -> Self:
        check_replaceable(self.folder)
        with ExitStack() as stack:
            stack.enter_context(only_writer(self.folder))
            with explain_os_errors(self.folder):
                if self.resume and self.partial.exists():
                    self._take_up()
                if not self.rows:
                    shutil.rmtree(self.partial, ignore_errors=True)
                    self.partial.mkdir(parents=True)
                    write_json(self.partial / "info.json", self.info)
            self._lock = stack.pop_all()
        return self

    def _take_up(self) -> None:
        try:
            if read_json(self.partial / "info.json") != self.info:
                return
            self.rows = {row["id"]: row for row in whole_rows(self._journal)}
        except (PhantomscopeError, OSError):
            return
        for torn in self.partial.rglob(".*.partial"):
            torn.unlink()  # of a file that was being written
        # The next line must not be appended to a torn one.
        write_text(self._journal, "".join(map(journal_line, self.rows.values())))

    def __contains__(self, identifier: str) -> bool:
        return identifier in self.rows

    def add(
        self,
        identifier: str,
        image: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        pixel_size: PixelSize | None = None,
        channels: int = 1,
        target: NDArray[Any] | None = None,
        cells: NDArray[Any] | None = None,
        others: NDArray[Any] | None = None,
        **columns: Any,
    ) -> None:
        """Write one image and its labels, and note its row.

        The image is ([Z,] Y, X), or with several `channels` (C, [Z,] Y, X).
        `pixel_size` is in um, one number or (z, y, x). `target` is what the image is
        to become, `cells` are labels of whole cells where `mask` has their nuclei,
        `others` labels of objects that are not those of `mask`, all of its size.
        """
        shape = image.shape[1:] if channels > 1 else image.shape
        row = self._row(identifier, shape, str(image.dtype), pixel_size) | {
            "low": float(image.min()),
            "high": float(image.max()),
            "sha256": pixel_hash(image),
        }
        how: dict[str, Any] = {"axes": row["axes"], "pixel_size": pixel_size}
        several = {}
        if channels > 1:
            row["channels"], several["axes"] = channels, f"C{row['axes']}"
        write_ome_tiff(self.partial / row["image"], image, **{**how, **several})
        for column, folder, array in (
            ("mask", "labels", mask), ("target", "targets", target),
            ("cells", "cells", cells), ("others", "others", others),
        ):  # fmt: skip
            if array is not None:
                row[column] = f"{folder}/{identifier}.ome.tif"
                row[f"{column}_sha256"] = pixel_hash(array)
                write_ome_tiff(self.partial / row[column], array, **how)
        self._note(row | columns)

    def add_volume(
        self,
        identifier: str,
        planes: Iterable[NDArray[Any]],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        masks: PlaneReader | None = None,
        *,
        pixel_size: PixelSize | None = None,
        **columns: Any,
    ) -> None:
        """Write one volume plane by plane, and its labels, and note its row."""
        row = self._row(identifier, shape, str(dtype), pixel_size)
        row |= write_volume(
            self.partial / row["image"], planes, shape, dtype, pixel_size=pixel_size
        )
        if masks is not None:
            row["mask"] = f"labels/{identifier}.ome.tif"
            found = write_volume(
                self.partial / row["mask"], masks, shape, masks.dtype,
                pixel_size=pixel_size,
            )  # fmt: skip
            row["mask_sha256"] = found["sha256"]
        self._note(row | columns)

    def _row(
        self, identifier: str, shape: tuple[int, ...], dtype: str,
        pixel_size: PixelSize | None,
    ) -> dict[str, Any]:  # fmt: skip
        """Begin the row of an image; refuse an id that is there."""
        if identifier in self.rows:
            raise PhantomscopeError(
                f"the id {identifier!r} occurs twice",
                where=self.folder,
                fix="give each image a file name of its own",
            )
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
        row |= {
            "id": identifier,
            "image": f"images/{identifier}.ome.tif",
            "group": identifier,
            "axes": "ZYX"[-len(shape) :],
            "height": shape[-2],
            "width": shape[-1],
            "dtype": dtype,
            **size_columns(pixel_size, len(shape)),
        }
        if len(shape) == 3:
            row["depth"] = shape[0]
        return row

    def _note(self, row: dict[str, Any]) -> None:
        self.rows[row["id"]] = row
        with explain_os_errors(self._journal), self._journal.open("a") as journal:
            journal.write(journal_line(row))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if kind is None:
                # In order of the ids: a set taken up again is the same file.
                rows = [self.rows[identifier] for identifier in sorted(self.rows)]
                write_manifest(self.partial, rows, self.info)
                self._journal.unlink(missing_ok=True)
                replace_folder(self.partial, self.folder)
