"""The one error that a user sees: what is wrong, where, and how to mend it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OS_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space, or set another output folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or ask for more"),
    errno.EROFS: ("the file system is read-only", "choose a folder you may write to"),
    errno.EACCES: ("permission denied", "choose a folder you may read and write"),
    errno.EPERM: ("permission denied", "choose a folder you may read and write"),
    errno.EFBIG: (
        "the file grew over the size limit of this process or file system",
        "raise the limit (ulimit -f) or choose another disk",
    ),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.ENOTDIR: (
        "a part of the path is a file, not a folder",
        "choose another output folder",
    ),
    errno.EEXIST: ("a file is in the way", "move it away"),
    errno.EISDIR: ("it is a folder, not a file", "name a file"),
}


class PhantomscopeError(Exception):
    """Something the user can mend.

    Parameters
    ----------
    what : str
        What is wrong, in one sentence without a full stop.
    where : str or Path, optional
        The file, config key or rule in which it is wrong.
    fix : str, optional
        How to mend it.
    example : str, optional
        A paste-ready example.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        fix: str = "",
        example: str = "",
    ) -> None:
        self.what = what
        self.where = str(where) if where is not None else ""
        self.fix = fix
        self.example = example
        super().__init__(self.render())

    def render(self) -> str:
        """Return the message as it is printed: what, where, how to mend, example."""
        lines = [f"error: {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  mend:  {self.fix}")
        if self.example:
            lines.append("  example:")
            lines += [f"    {line}" for line in self.example.splitlines()]
        return "\n".join(lines)


@contextmanager
def explain_os_errors(path: str | Path) -> Iterator[None]:
    """Turn an operating-system error about `path` into a `PhantomscopeError`."""
    try:
        yield
    except OSError as error:
        what, fix = _OS_REMEDIES.get(
            error.errno or 0, (error.strerror or str(error), "check the path and retry")
        )
        where = error.filename if error.filename is not None else path
        raise PhantomscopeError(what, where=_final_name(where), fix=fix) from error


def _final_name(path: object) -> str:
    """Undo the temporary name of a file or folder that is being written.

    The user knows the final one only.
    """
    partial = r"(^|/)\.([^/]+?)(\.[0-9a-f]{8})?\.(partial|lock)(?=/|$)"
    return re.sub(partial, r"\1\2", str(path))
