"""How far the synthesis of a large image has come, noted slab by slab."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from phantomscope.engine.checkpoint import fingerprint
from phantomscope.engine.sweep import Carry
from phantomscope.errors import explain_os_errors
from phantomscope.images.files import atomic_file, write_json


class Journal:
    """Notes, after each slab, what the next one needs.

    A note names the sweep and the slab that are next; the sums of rows that are not
    whole lie in a file of their own. Values of a slab are written before its note, so
    that after a kill at any moment the slab is done again, from the same state.

    Parameters
    ----------
    folder : Path, optional
        Where the notes lie; without one nothing is noted.
    identity : Mapping
        JSON-like. Notes of another identity are not taken up.
    device : torch.device
        Where the sums are needed.

    Attributes
    ----------
    sweep, slab : int
        What is next; sweep 0 is the start state.
    carry : Carry, optional
        What the sweep needs to go on.
    """

    def __init__(
        self, folder: Path | None, identity: Mapping[str, object], device: torch.device
    ) -> None:
        self.folder, self.device = folder, device
        self.mark = fingerprint(identity)
        self.sweep, self.slab = 0, 0
        self.carry: Carry | None = None
        if folder is not None:
            with explain_os_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._take_up(folder)

    def _take_up(self, folder: Path) -> None:
        """Read the last note; whatever is not whole or not ours is begun anew."""
        for torn in folder.glob(".*.partial"):
            torn.unlink()
        try:
            note = json.loads((folder / "next.json").read_text())
            if note["identity"] != self.mark:
                return
            sweep, slab = int(note["sweep"]), int(note["slab"])
            self.carry = self._read(folder / note["carry"]) if note["carry"] else None
        except (
            OSError, ValueError, KeyError, TypeError, EOFError, zlib.error,
            zipfile.BadZipFile,
        ):  # fmt: skip
            return
        self.sweep, self.slab = sweep, slab

    def begin_anew(self) -> None:
        """Forget what was noted: the values that belong to it are gone."""
        self.sweep, self.slab, self.carry = 0, 0, None

    def _read(self, path: Path) -> Carry:
        with np.load(path, allow_pickle=False) as file:
            total, weight = (
                torch.from_numpy(file[name]).to(self.device)
                for name in ("total", "weight")
            )
        return Carry(total, weight)

    def note(self, sweep: int, slab: int, carry: Carry | None) -> None:
        """Note what is next, and what it needs."""
        self.sweep, self.slab, self.carry = sweep, slab, carry
        if self.folder is None:
            return
        name = ""
        if carry is not None:
            name = f"carry-{sweep}-{slab}.npz"
            with atomic_file(self.folder / name) as temporary:
                # By stream: numpy would add a suffix to the name.
                with temporary.open("wb") as stream:
                    np.savez(
                        stream,
                        total=carry.total.cpu().numpy(),
                        weight=carry.weight.cpu().numpy(),
                    )
        write_json(
            self.folder / "next.json",
            {"identity": self.mark, "sweep": sweep, "slab": slab, "carry": name},
        )
        for old in self.folder.glob("carry-*.npz"):
            if old.name != name:
                old.unlink()
