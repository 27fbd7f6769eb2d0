"""Miniatures of the archives of Saguy et al., in ShareLoc's layout on Zenodo.

    write_archives(folder)
    with serve(folder, ARCHIVES) as registry:      # a `source.registry`
        ...

Their tables are simulated: microtubules and mitochondria, labelled and localised.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.localisation_tables import Columns, write_smlm, zipped

from phantomscope.config.structures import Filaments, Mitochondria
from phantomscope.config.superresolution import Blinking, Labelling
from phantomscope.images.noise import generator
from phantomscope.simulate.blinking import localise
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.labelling import label_structure
from phantomscope.simulate.mitochondria import mitochondria

MT, MITO = "shareloc_tubulin_nocodazole", "shareloc_tom22"
ARCHIVES = {MT: "zenodo-6948554.zip", MITO: "zenodo-5512636.zip"}
UNITS = {"intensity": "photon", "frame": "frame"}
# Side of a field of view, nm.
FIELD = 5200.0
# Fluorophores are on walls, of which mitochondria have more.
DENSITY = {MT: 120.0, MITO: 400.0}


def table(name: str, number: int) -> Columns:
    """Simulate a table; that of TOM22 states no precision."""
    rng, field = generator(0, name, number), (FIELD, FIELD)
    if name == MT:
        structure = microtubules(Filaments(), field, rng)
    else:
        # In so small a field the nucleus would often be all that there is.
        structure = mitochondria(Mitochondria(nucleus=0.0, density=1.2), field, rng)
    marked = label_structure(structure, Labelling(density=DENSITY[name]), rng)
    found = localise(marked, structure.field, Blinking(), rng)
    titles = {"x": "x", "y": "y", "intensity": "photons"}
    if name == MT:
        titles["uncertainty"] = "precision"
    columns: Columns = {
        title: found[column].to_numpy(np.float32) for title, column in titles.items()
    }
    return {**columns, "frame": found["frame"].to_numpy(np.uint32)}


def write_archives(folder: Path, tables: int = 5) -> None:
    """Write an archive of each set: a folder with one `data.smlm` per sample."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / "table.smlm"
    for name, archive in ARCHIVES.items():
        files = {}
        for number in range(tables):
            columns = table(name, number)
            units = [UNITS.get(title, "nm") for title in columns]
            write_smlm(scratch, columns, units=units)
            files[f"sample-{number}/data.smlm"] = scratch.read_bytes()
            files[f"sample-{number}/screenshot.png"] = b"png"
        (folder / archive).write_bytes(zipped(files))
    scratch.unlink()
