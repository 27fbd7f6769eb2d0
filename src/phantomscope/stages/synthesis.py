"""Stage of the synthesis: from sketches to images and volumes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.model import Config
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.distil import student_options
from phantomscope.engine.fields import RowsField
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet, count_channels
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.images.tracks import carry_tracks
from phantomscope.images.writer import ImageSetWriter
from phantomscope.planning.sharding import pixels_per_job
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import exposure, raw_limits, unannotated

Float = NDArray[np.float32]
# Where a volume that is being synthesised has its states, in the unfinished set.
STATES = "states"
# A blur looks so many sigma far.
BLUR_REACH = 3.0


def make_sampler(
    model: DiffusionModel, config: Config, options: Synthesise | None = None
) -> Sampler:
    """Make the sampler that an experiment uses throughout."""
    return Sampler(
        model, options or config.synthesise, config.seed, pixels_per_job(config)
    )


def sketch_values(
    sketch: Float, options: Synthesise, transform: str, rows: slice = slice(None)
) -> Float:
    """Return a sketch as the way back takes it up.

    Parameters
    ----------
    sketch : ndarray, shape ([Z,] Y, X)
        Unit intensities.
    options : Synthesise
        Blur and range of sketches.
    transform : str
        From unit intensities to the network's range.
    rows : slice
        Rows along the first axis to return; those around them are only blurred over.
    """
    if options.sketch_blur:
        sketch = ndimage.gaussian_filter(
            sketch, options.sketch_blur, truncate=BLUR_REACH
        )
    sketch = sketch[rows]
    if options.sketch_range == "unit":
        return sketch
    return unit_to_network(sketch, transform)


def network_sketch(channels: Float, options: Synthesise, transform: str) -> Float:
    """Do as `sketch_values` with each channel of a sketch, shape (C, [Z,] Y, X).

    One channel alone has no axis of channels any more.
    """
    values = [sketch_values(one, options, transform) for one in channels]
    return values[0] if len(values) == 1 else np.stack(values)


def raw_image(values: Float, scale: Normalisation, like: str) -> NDArray[Any]:
    """Bring network values, perhaps of several channels, to the units of an image."""
    if scale.channels == 1:
        return scale.inverse(values, like)
    return scale.inverse_channels(values, like)


def bring_back(sampler: Sampler, sketch: Float, identifier: str, t: int) -> Float:
    """Bring a sketch back; a model that sees sketches sees it all the way."""
    condition = sketch[None] if sampler.model.conditions else None
    return sampler.from_sketch(sketch, identifier, t, condition)


def read_start(start: Path, timesteps: int) -> int:
    """Read t_start and make sure that the model knows this time."""
    content = read_json(start)
    value = content.get("value") if isinstance(content, dict) else None
    if type(value) is not int or not 1 <= value <= timesteps:
        raise PhantomscopeError(
            f"t_start is {value!r}, the model knows the times 1 to {timesteps}",
            where=start,
            fix="delete it and run `choose-start` again, or set `value` in it",
        )
    return value


def synthesise(
    config: Config, *, prepared: Path, normalisation: Path, model: Path, start: Path,
    sketches: Path, synthetic: Output,
) -> None:  # fmt: skip
    """Turn one shard of sketches into realistic images with the same labels."""
    real, scale = unannotated(prepared), Normalisation.load(normalisation)
    diffusion = DiffusionModel.load(model)
    part = ImageSet.open(sketches).having("type")
    t_start = read_start(start, diffusion.process.timesteps)
    options = student_options(diffusion.meta, config.synthesise, t_start)
    info = {
        "stage": "synthesise",
        "seed": config.seed,
        "t_start": t_start,
        "options": options.model_dump(),
        "model": diffusion.meta["fingerprint"],
        "sketches": list(part.table["sha256"]),
    }
    sampler = make_sampler(diffusion, config, options)
    with (
        ImageSetWriter(synthetic, info) as writer,
        Progress("synthesising", len(part), unit="images") as progress,
    ):
        for identifier in part.ids:
            if identifier not in writer:
                row = part.row(identifier)
                like = raw_limits(scale, real, row["type"], config.seed, exposure(row))
                columns = {
                    "split": "train", "seed": config.seed, "type": row["type"],
                    "limits": like, "pixel_size": real.voxel_size(like),
                    **carry_tracks(row, part.folder, writer.partial),
                }  # fmt: skip
                noise = noise_of(row, options)
                channels = count_channels(row)
                # Volumes of several channels are in memory.
                if row["axes"] == "ZYX" and channels == 1:
                    _volume(
                        sampler, part, identifier, noise, t_start, scale, writer,
                        columns,
                    )  # fmt: skip
                else:
                    sketch = part.channels(identifier)
                    values = network_sketch(sketch, options, scale.transform)
                    values = bring_back(sampler, values, noise, t_start)
                    raw = raw_image(values, scale, like)
                    mask = part.mask(identifier)
                    writer.add(identifier, raw, mask, channels=channels, **columns)
            progress.advance()
        # Those of a volume that was finished just before a kill are there, too.
        shutil.rmtree(writer.partial / STATES, ignore_errors=True)


def noise_of(row: dict[str, Any], options: Synthesise) -> str:
    """Return the name of the noise field of an image: its id, or its series."""
    return str(row["group"] if options.series_noise == "shared" else row["id"])


def _volume(
    sampler: Sampler, sketches: ImageSet, identifier: str, noise: str, t_start: int,
    scale: Normalisation, writer: ImageSetWriter, columns: dict[str, Any],
) -> None:  # fmt: skip
    """Synthesise a volume from file to file; killed, it goes on at the next slab."""
    scratch = writer.partial / STATES / identifier
    with (
        sketches.planes(identifier) as sketch,
        sketches.planes(identifier, "mask") as labels,
    ):
        halo = math.ceil(BLUR_REACH * sampler.config.sketch_blur)

        def rows(first: int, stop: int) -> Float:
            low, high = max(first - halo, 0), min(stop + halo, sketch.shape[0])
            wanted = slice(first - low, stop - low)
            return sketch_values(
                sketch.read(low, high), sampler.config, scale.transform, wanted
            )[None]

        condition = None
        if sampler.model.conditions:
            condition = RowsField(rows, 1, sketch.shape, sampler.device)
        field = sampler.stream(rows, sketch.shape, noise, t_start, scratch, condition)
        raw = (
            scale.inverse(field.read(z, z + 1)[0, 0].numpy(), columns["limits"])
            for z in range(sketch.shape[0])
        )
        dtype = np.dtype(scale.dtype)
        writer.add_volume(identifier, raw, sketch.shape, dtype, labels, **columns)
    shutil.rmtree(scratch)
