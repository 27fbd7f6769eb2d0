"""Stage of simulated tables of localisations, which stand in for real ones."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from phantomscope import provenance
from phantomscope.acquire.localisations.read import Options, read_localisations
from phantomscope.acquire.localisations.write import SUFFIXES, write_table
from phantomscope.config.model import Config
from phantomscope.config.simulation import STRUCTURES
from phantomscope.config.superresolution import Blinking
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import (
    check_replaceable,
    read_json,
    replace_folder,
    write_json,
    write_ome_tiff,
)
from phantomscope.images.noise import generator
from phantomscope.locks import only_writer
from phantomscope.progress import Progress
from phantomscope.simulate.blinking import molecules
from phantomscope.simulate.calibrate import measure_table
from phantomscope.simulate.structures import Name, StructureDrawer
from phantomscope.stages.arguments import Output

SIDECAR = "simulation.json"
# Not the stream of sketches: with one seed these would show the cells of the tables,
# those of the test part among them.
STREAM = "table"
TRUTH = "truth"


@dataclass(frozen=True)
class _Movie:
    """Options of blinking, and what is known of their source."""

    options: Blinking
    facts: dict[str, Any]


def _calibrated(config: Config, path: Path) -> _Movie:
    """Measure a real table; what it does not tell is that of the config."""
    reading, base = config.source.localisations, config.simulate.structures.blinking
    how: Options = {
        "format": reading.format,
        "columns": reading.titles,
        "unit": reading.unit,
        "pixel_size": reading.camera_pixel_nm,
        "channel": reading.channel,
        "drop_invalid": reading.invalid == "drop",
    }
    table = read_localisations(path, **how)
    columns = {
        "precision" if name == "uncertainty" else name: table.field(name, "calibration")
        for name in ("x", "y", "frame", "photons", "uncertainty")
    }
    bright = columns["photons"] > 0
    try:
        measured = measure_table({k: v[bright] for k, v in columns.items()}, base)
    except PhantomscopeError as error:
        raise PhantomscopeError(error.what, where=path, fix=error.fix) from error
    if measured.background == 0:
        print(
            f"warning: {path.name} is more precise than its photons allow with a spot "
            f"of {base.psf_sigma:g} nm; simulated tables are not: give the true one as "
            "`simulate.structures.blinking.psf_sigma`"
        )
    options = measured.options(base)
    found = asdict(measured)
    source = {
        # The column of it is not read.
        name: "calibration" if name in found and name != "psf_sigma" else "config"
        for name in Blinking.model_fields
    }
    facts = {
        "table": path.name,
        "sha256": provenance.file_digest(path),
        "rows": len(table),
        "without_photons": int((~bright).sum()),
        "measured": found,
        "blinking": options.model_dump(),
        "source": source,
    }
    return _Movie(options, facts)


def _movies(config: Config, calibrate: list[Path]) -> list[_Movie]:
    """Return the options that tables take in turn."""
    if calibrate:
        return [_calibrated(config, path) for path in calibrate]
    options = config.simulate.structures.blinking
    facts = {
        "blinking": options.model_dump(),
        "source": dict.fromkeys(Blinking.model_fields, "config"),
    }
    return [_Movie(options, facts)]


def _check(config: Config, suffix: str) -> Name:
    """Return the organism, if tables of it can be written."""
    organism = config.simulate.organism
    if organism not in STRUCTURES:
        raise PhantomscopeError(
            f"there are no tables of `{organism}`",
            where="simulate.organism",
            fix=f"use {' or '.join(STRUCTURES)}",
        )
    if suffix not in SUFFIXES:
        raise PhantomscopeError(
            f"no table is written with the suffix {suffix!r}",
            where="--suffix",
            fix=f"use {', '.join(SUFFIXES)}",
        )
    return cast(Name, organism)


def _take_up(partial: Path, facts: dict[str, Any]) -> None:
    """Keep tables that a killed run has finished, if it was the same one."""
    info = partial / SIDECAR
    if info.exists():
        try:
            if read_json(info) == facts:
                return
        except PhantomscopeError:
            pass
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(info, facts)


def simulate_tables(
    config: Config,
    *,
    tables: Output,
    calibrate: list[Path] = [],  # noqa: B006 (read only)
    suffix: str = ".csv.gz",
) -> None:
    """Write numbered tables of localisations of simulated structures."""
    name = _check(config, suffix)
    check_replaceable(tables)
    options, size = config.simulate.structures, config.simulate.size[-2:]
    field = size[0] * options.pixel, size[1] * options.pixel
    movies = _movies(config, calibrate)
    names = [f"{name}-{number:03d}" for number in range(config.simulate.images)]
    facts = {
        "stage": "simulate_tables",
        "data_kind": "simulated",
        "seed": config.seed,
        "stream": STREAM,
        "organism": name,
        "field_nm": [0.0, 0.0, field[1], field[0]],
        "pixel_nm": options.pixel,
        "structures": options.model_dump(
            mode="json", exclude={"appearance", "blinking", "drawing"}
        ),
        "movies": [movie.facts for movie in movies],
        "tables": {
            stem: {"file": stem + suffix, "movie": number % len(movies)}
            for number, stem in enumerate(names)
        },
    }
    partial = tables.with_name(f".{tables.name}.partial")
    with (
        only_writer(tables),
        explain_os_errors(tables),
        Progress("simulating tables", len(names), unit="tables") as progress,
    ):
        _take_up(partial, facts)
        drawer = StructureDrawer(name)
        for number, stem in enumerate(names):
            path = partial / f"{stem}{suffix}"
            if not path.exists():
                movie = movies[number % len(movies)]
                own = options.model_copy(update={"blinking": movie.options})
                rng = generator(config.seed, STREAM, number)
                structure, table = drawer.localised(own, field, rng)
                write_ome_tiff(
                    partial / TRUTH / f"{stem}.ome.tif",
                    drawer.labels(structure, own),
                    pixel_size=options.pixel / 1000,
                )
                # The last one: what is there is whole.
                write_table(path, molecules(table))
            progress.advance()
        replace_folder(partial, tables)
