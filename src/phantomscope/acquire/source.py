"""The one door to all sources of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phantomscope.acquire.annotated import acquire_annotated
from phantomscope.acquire.dataset import acquire_dataset, entry_of
from phantomscope.acquire.download import download
from phantomscope.acquire.folder import acquire_folder
from phantomscope.acquire.package import acquire_package
from phantomscope.acquire.readers import acquire_with_reader, choice_of
from phantomscope.acquire.remote_zip import fetch_members
from phantomscope.acquire.samples import find_samples, select
from phantomscope.acquire.videos import acquire_own_videos
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError


def acquire(source: Source, folder: Path, files: Sequence[Path] = ()) -> None:
    """Make an image set of what the config names.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config.
    folder : Path
        Folder of the new set: images ([Z,] Y, X) of uint8, uint16 or float32 in the
        units of the files, labels ([Z,] Y, X) of uint16 or uint32.
    files : sequence of Path
        Downloaded files of a public data set; empty: those in ``source.downloads``.

    Raises
    ------
    PhantomscopeError
        As `acquire_package`, `acquire_folder`, `acquire_dataset`,
        `acquire_localisations`, `acquire_videos`, `acquire_annotated` and
        `acquire_with_reader`.
    """
    if source.kind == "package":
        acquire_package(folder)
    elif source.of_tables:
        # It draws, with numba.
        from phantomscope.acquire.localisations.images import acquire_localisations

        acquire_localisations(source, folder, files)
    elif source.entry is not None and source.entry.layout.reader:
        acquire_with_reader(source, files, folder)
    elif source.kind == "dataset":
        acquire_dataset(source, files, folder)
    elif source.kind == "videos":
        acquire_own_videos(source, folder)
    elif source.kind == "annotated":
        table = Path(source.table or "")
        acquire_annotated(Path(source.path or ""), table, folder, choice_of(source))
    else:
        acquire_folder(source, folder)


def fetch(source: Source, target: Path) -> None:
    """Download one file of a data set, or copy it from the mirror.

    Of a file that is used in part (``source.download``) only the members that the
    config asks for are fetched, and make a smaller zip.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config: data set and mirror.
    target : Path
        Where to put it; its name says which file it is.

    Raises
    ------
    PhantomscopeError
        If the data set has no such file, and as `download` and `fetch_members`.
    """
    entry = entry_of(source)
    files = {source.local_name(file): file for file in entry.files}
    if target.name not in files:
        raise PhantomscopeError(
            f"the data set {source.dataset!r} has no file {target.name!r}",
            where=target,
            fix=f"with this config its files are {', '.join(files)}",
        )
    file = files[target.name]
    url = f"{source.mirror.rstrip('/')}/{file.name}" if source.mirror else file.url
    if not source.in_parts:
        download(url, target, size=file.size, sha256=file.sha256)
        return

    def choose(names: Sequence[str]) -> list[str]:
        where, truth = Path(file.name), source.chosen_truth
        samples = find_samples(names, entry.layout, where, truth)
        chosen = select(samples, source, where)
        return [name for s in chosen for name in (s.image, *s.labels)]

    fetch_members(url, target, choose, size=file.size)
