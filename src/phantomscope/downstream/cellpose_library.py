"""Cellpose's modules, imported without compiling them anew in every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Let numba keep what a library compiles while it is imported in this block.

    The next process loads that, as it does our own compiled functions. What is
    compiled, and for which types, stays what the library asks for.
    """
    import numba

    plain = numba.njit

    def njit(*arguments: Any, **options: Any) -> Any:
        return plain(*arguments, **{"cache": True, **options})

    numba.njit = njit
    try:
        yield
    finally:
        numba.njit = plain


def cellpose_module(name: str) -> Any:
    """Import a module of Cellpose, such as ``models``.

    Cellpose compiles some functions when it is imported: seven seconds of a core, for
    which every job of a workflow would wait.
    """
    with kept_on_disk():
        return import_module(f"cellpose.{name}")
