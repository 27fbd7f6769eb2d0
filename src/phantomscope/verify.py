"""`phantomscope verify`: whether results are still what their records say.

Digests tell of changes that nobody meant to make and of outputs that do not belong
together. They are no signatures: who writes a record anew can claim anything.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.checksums import CHECKSUMS, read_checksums
from phantomscope.images.files import pixel_hash, read_array
from phantomscope.progress import Progress
from phantomscope.provenance import (
    SUFFIX,
    Artefact,
    Record,
    file_digest,
    load,
    measure,
    reraise,
)
from phantomscope.verify_report import Report

# Beside the outputs, and made by no stage.
_OTHERS = ("logs", "benchmarks", ".snakemake", ".snakemake_timestamp")
# Images in full size may be deleted once pairs are made of them.
_FREED = ("acquire_plates",)
_NO_STAGE = "(bad record)"


class _Pixels(NamedTuple):
    """What is said about one file; `stage` made the set in `folder`.

    `sha256` is that of the pixels, as a manifest has it, or of all bytes, as the list
    of checksums of a published set has it (`whole`).
    """

    sha256: str
    stage: str
    folder: str
    whole: bool = False


class _Verifier:
    """The parts of `verify`. All paths are absolute, normalised strings."""

    def __init__(self, results: Path, quick: bool) -> None:
        self.results, self.root = results, os.path.abspath(results)
        self.report = Report(results, quick)
        self.made: dict[str, tuple[Artefact, Record]] = {}
        self.used: list[tuple[str, Artefact, str, Record]] = []
        # Some 0.5 kB per file: what a million images take is bearable.
        self.pixels: dict[str, _Pixels] = {}
        self.named: set[str] = set()
        self.gone: list[str] = []
        self.unknown: list[str] = []

    def shown(self, path: str) -> Path:
        """Return a path as the user would write it."""
        return Path(os.path.normpath(self.results / os.path.relpath(path, self.root)))

    def note(self, stage: str, what: str, path: str, fix: str) -> None:
        problem = PhantomscopeError(what, where=self.shown(path), fix=fix)
        self.report.problems.append(problem)
        self.report.tally(stage).problems += 1

    def again(self, output: str, stage: str) -> str:
        """Say how to make an output anew.

        Snakemake does not miss what only finished jobs have used, hence the option.
        """
        return (
            f"make it again: `snakemake --forcerun {self.shown(output)}` with the "
            f"options of the run, or `phantomscope {stage.replace('_', '-')}`"
        )

    def measured(
        self, path: str, artefact: Artefact, stage: str
    ) -> tuple[str, dict[str, str] | None] | None:
        """Digest what is there now; None if it is gone, or cannot be read."""
        is_file = artefact.kind == "file"
        if not (os.path.isfile(path) if is_file else os.path.isdir(path)):
            return None
        try:
            return measure(Path(path), artefact.kind)
        except PhantomscopeError as problem:
            self.note(stage, problem.what, problem.where or path, problem.fix)
            return None

    def read_records(self) -> None:
        paths = [path for path in self.walk() if path.endswith(SUFFIX)]
        if not paths:
            raise PhantomscopeError(
                "there is no provenance record in this folder: nothing says what it "
                "should hold",
                where=self.results,
                fix="give the folder of a run, such as results/demo; a run without "
                "records has to be made again",
            )
        records = []
        for path in paths:
            try:
                records.append((path, load(Path(path))))
            except PhantomscopeError as problem:
                self.note(_NO_STAGE, problem.what, path, problem.fix)
                self.unknown.append(path.removesuffix(SUFFIX))
        # A figure drawn again in another order has two records: the later counts.
        for path, record in sorted(records, key=lambda found: found[1].started):
            self.add(path, record)

    def add(self, path: str, record: Record) -> None:
        self.report.tally(record.stage).records += 1
        outputs, inputs = (
            [
                (os.path.normpath(os.path.join(os.path.dirname(path), a.path)), a)
                for artefacts in keywords.values()
                for a in artefacts
            ]
            for keywords in (record.outputs, record.inputs)
        )
        for place, artefact in outputs:
            if place.startswith(self.root + os.sep):
                self.made[place] = artefact, record
            else:
                what = f"this record claims {artefact.path}, outside of {self.results}"
                fix = "give the folder of the whole run; if you did, delete this record"
                self.note(record.stage, what, path, fix)
        self.used += [(place, a, outputs[0][0], record) for place, a in inputs]

    def check_outputs(self) -> None:
        for path, (artefact, record) in sorted(self.made.items()):
            tally = self.report.tally(record.stage)
            tally.files += len(artefact.files or [path])
            found = self.measured(path, artefact, record.stage)
            if found is None and self.is_freed(path, record.stage):
                self.report.freed.append(self.shown(path))
                continue
            if found is None:
                self.gone.append(path)
                what = f"`{record.stage}` made this, and it is gone or unreadable"
                self.note(record.stage, what, path, self.again(path, record.stage))
                continue
            self.compare(path, artefact, record.stage, *found)
            if artefact.kind == "images":
                tally.images += self.read_manifest(path, record.stage)

    def is_freed(self, path: str, stage: str) -> bool:
        """Say whether a set may be gone, since others were made of it."""
        made = any(place == path for place, *_ in self.used)
        return stage in _FREED and made and not os.path.lexists(path)

    def compare(
        self, path: str, artefact: Artefact, stage: str, digest: str,
        files: dict[str, str] | None,
    ) -> None:  # fmt: skip
        """Compare an output with its record, and name each file that differs."""
        before = {"": artefact.digest} if artefact.files is None else artefact.files
        now = {"": digest} if files is None else files
        for name in sorted({*before, *now}):
            place = os.path.join(path, name) if name else path
            self.named.add(place)
            if name not in before:
                what = f"this was not there when `{stage}` ended, and may be read"
                self.note(stage, what, place, "move it away")
            elif before[name] != now.get(name):
                gone = "and it is gone" if name not in now else "and it was changed"
                what = f"`{stage}` made this, {gone}"
                self.note(stage, what, place, self.again(path, stage))

    def read_manifest(self, folder: str, stage: str) -> int:
        """Note what a manifest says about each file; return the number of images."""
        manifest = os.path.join(folder, "manifest.csv")
        images = contradictions = 0
        if not os.path.isfile(manifest):
            self.unknown.append(folder)  # as `compare` has told
            return 0
        published = os.path.isfile(os.path.join(folder, CHECKSUMS))
        try:
            if published:
                self.read_list(folder, stage)
            for column, name, sha256 in _files_of(manifest):
                images += column == "image"
                if published:
                    continue  # an image may be a folder of files: OME-Zarr
                path = os.path.normpath(os.path.join(folder, name))
                known = self.pixels.get(path)
                contradictions += known is not None and known.sha256 != sha256
                # The set in which a file lies knows best how to make it anew.
                if known is None or path.startswith(folder + os.sep):
                    self.pixels[path] = _Pixels(sha256, stage, folder)
        except PhantomscopeError as problem:
            self.unknown.append(folder)
            self.note(stage, problem.what, manifest, self.again(folder, stage))
        if contradictions:
            what = f"files with other pixels than in another set: {contradictions}"
            self.note(stage, what, manifest, self.again(folder, stage))
        return images

    def read_list(self, folder: str, stage: str) -> None:
        """Note what the list of checksums of a published set says about each file."""
        for name, sha256 in read_checksums(Path(folder, CHECKSUMS)).items():
            path = os.path.normpath(os.path.join(folder, name))
            if path not in self.named:  # what lies beside the list was compared
                self.pixels[path] = _Pixels(sha256, stage, folder, whole=True)

    def check_inputs(self) -> None:
        """Compare what each stage used with what the record of that thing says."""
        present: dict[str, str | None] = {}
        for path, artefact, first, record in self.used:
            if first not in self.made or self.made[first][1] is not record:
                continue  # made again since, as another record says
            if path in self.made:
                digest: str | None = self.made[path][0].digest
            else:
                if path not in present:
                    present[path] = self.unmade(path, artefact, record.stage)
                digest = present[path]
            inside = path.startswith(self.root + os.sep)
            if digest is None and inside:
                what = f"this was made from {self.shown(path)}, which is gone"
                self.note(record.stage, what, first, "put it back")
            elif digest is not None and digest != artefact.digest:
                what = f"this was made from another version of {self.shown(path)}"
                self.note(record.stage, what, first, self.again(first, record.stage))

    def unmade(self, path: str, artefact: Artefact, stage: str) -> str | None:
        """Digest an input that no record made; None if it is not there."""
        found = self.measured(path, artefact, stage)
        if found is None:
            return None
        digest, files = found
        if path.startswith(self.root + os.sep):
            self.report.unrecorded.append(self.shown(path))
            self.named |= {path, *(os.path.join(path, name) for name in files or {})}
            if artefact.kind == "images":
                self.read_manifest(path, stage)
        return digest

    def check_pixels(self) -> None:
        doing = "looking for files" if self.report.quick else "comparing pixels"
        with Progress(doing, len(self.pixels), unit="files") as progress:
            for path, known in self.pixels.items():
                if what := self.wrong_with(path, known):
                    again = self.again(known.folder, known.stage)
                    self.note(known.stage, what, path, f"put it back, or {again}")
                progress.advance()

    def wrong_with(self, path: str, known: _Pixels) -> str:
        """Say what is wrong with a file of an image; nothing if it is as recorded."""
        if not os.path.isfile(path):
            said = CHECKSUMS if known.whole else "manifest.csv"
            where = self.shown(os.path.join(known.folder, said))
            what = f"there is no such file, but {where} names it"
            # Of a whole folder that is gone one problem tells enough.
            return "" if _below(path, self.gone) else what
        if self.report.quick:
            return ""
        try:
            if known.whole:
                same = file_digest(Path(path)) == known.sha256
                return "" if same else f"this is not what {CHECKSUMS} says"
            same = pixel_hash(read_array(Path(path))) == known.sha256
        except PhantomscopeError as problem:
            return problem.what
        return "" if same else "the pixels are not those that the manifest records"

    def walk(self) -> Iterator[str]:
        """Yield files and partial folders, without what lies beside the outputs."""
        seen = set()
        for place, folders, names in os.walk(
            self.root, onerror=reraise, followlinks=True
        ):
            if (real := os.path.realpath(place)) in seen:
                folders.clear()  # a link that leads round in a circle
                continue
            seen.add(real)
            partial = [name for name in folders if name.endswith(".partial")]
            for name in sorted([*names, *partial]):
                if not _is_other(name):
                    yield os.path.join(place, name)
            folders[:] = sorted(
                name for name in folders
                if not (_is_other(name) or name.endswith((".partial", ".state")))
            )  # fmt: skip

    def find_others(self) -> None:
        """List what is partial, and what no record and no manifest names."""
        for path in self.walk():
            if path.endswith(".partial"):
                self.report.partial.append(self.shown(path))
            elif not (
                path.endswith(SUFFIX) or path in self.named or path in self.pixels
                or _below(path, self.unknown)
            ):  # fmt: skip
                self.report.unaccounted.append(self.shown(path))


def _is_other(name: str) -> bool:
    # The lock of a stage that is running is no file of the results either.
    return name in _OTHERS or (name.startswith(".") and name.endswith(".lock"))


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one + os.sep) for one in folders)


def _files_of(manifest: str) -> Iterator[tuple[str, str, str]]:
    """Yield column, path and pixel hash of each file; rows are streamed."""
    # An `ImageSet` would hold the whole table, and stop at the first thing amiss.
    with explain_os_errors(manifest):
        try:
            with open(manifest, encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    if not (row["image"] and row["sha256"]):
                        raise ValueError("a row without a file or its hash")
                    yield "image", row["image"], row["sha256"]
                    for name in ("mask", "target"):
                        if row.get(name):
                            yield name, row[name], row[f"{name}_sha256"]
        except (KeyError, ValueError, csv.Error) as error:
            raise PhantomscopeError(f"this manifest is broken ({error})") from error


def verify(results: Path, *, quick: bool = False) -> Report:
    """Compare everything below a folder of results with its provenance records.

    Parameters
    ----------
    results : Path
        Folder of one run, such as ``results/demo``.
    quick : bool
        Leave out the pixels, which take most of the time: the files of images are
        only looked for.

    Returns
    -------
    Report
        All problems, not only the first.

    Raises
    ------
    PhantomscopeError
        If the folder is missing, cannot be read or holds no record at all.
    """
    with explain_os_errors(results):
        if not results.is_dir():
            raise PhantomscopeError(
                "there is no such folder of results",
                where=results,
                fix="give the folder of a run, such as results/demo",
            )
        verifier = _Verifier(results, quick)
        verifier.read_records()
        verifier.check_outputs()
        verifier.check_inputs()
        verifier.check_pixels()
        verifier.find_others()
    return verifier.report
