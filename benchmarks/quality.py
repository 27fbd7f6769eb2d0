"""Quality against steps, for each sampler, beside the full ancestral chain.

Two ways back are measured, both from t_start: of held-out real images, which come back
as something that can be compared with them, and of sketches, which come back as images
that must look like real ones and show what their labels say.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.laboratory import Laboratory
from benchmarks.table import Row
from phantomscope.config.diffusion import Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.sample import Sampler
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.measure.distribution import bhattacharyya_distance, shared_histograms
from phantomscope.measure.fidelity import check_fidelity
from phantomscope.measure.image import psnr, ssim
from phantomscope.measure.spectral import spectral_distance
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch

Float = NDArray[np.float32]
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m")
STEPS = (2, 5, 10, 20, 50)
SIDE = 160


@dataclass(frozen=True, eq=False)
class Material:
    """What goes the way back: real crops, sketches with labels; and real images."""

    crops: list[Float]
    sketches: list[tuple[Float, NDArray[np.uint16], float]]
    real: list[Float]
    scale: Normalisation
    model: DiffusionModel
    start: int
    seed: int


def material(lab: Laboratory, count: int) -> Material:
    """Take `count` sketches, and half as many crops of held-out images."""
    scale = Normalisation.load(lab.normalisation)
    prepared = ImageSet.open(lab.prepared)

    def crops(split: str, most: int) -> list[Float]:
        found: list[Float] = []
        for identifier in prepared.select(split=split).ids:
            image = scale.forward(prepared.image(identifier), identifier)
            for y in range(0, image.shape[0] - SIDE + 1, SIDE):
                for x in range(0, image.shape[1] - SIDE + 1, SIDE):
                    found.append(image[y : y + SIDE, x : x + SIDE])
        return found[:: max(1, len(found) // most)][:most]

    parameters = SketchParameters.load(lab.sketch)
    options = lab.config.simulate.model_copy(update={"size": (SIDE, SIDE)})
    # Numbers that no synthetic image of the experiment has.
    first = lab.config.simulate.images + 1000
    drawn = [
        simulate_sketch(parameters, options, lab.config.seed, first + n)
        for n in range(count)
    ]
    sketches = [
        (unit_to_network(sketch, scale.transform), labels, kind.radius[3])
        for sketch, labels, kind in drawn
    ]
    return Material(
        crops("test", max(count // 2, 1)), sketches, crops("train", 64), scale,
        DiffusionModel.load(lab.model), int(read_json(lab.start)["value"]),
        lab.config.seed,
    )  # fmt: skip


def _texture_distance(real: Sequence[Float], made: Sequence[Float]) -> float:
    """Bhattacharyya distance of intensities (of network values, 64 bins)."""
    pools = [np.concatenate([i.ravel() for i in images]) for images in (real, made)]
    return bhattacharyya_distance(*shared_histograms(*pools, bins=64))


def measure(found: Material, config: Synthesise) -> dict[str, Any]:
    """Go both ways back with some options and measure what comes."""
    sampler = Sampler(found.model, config, found.seed)
    begin = time.perf_counter()
    back = [
        sampler.from_sketch(crop, f"crop-{n}", found.start)
        for n, crop in enumerate(found.crops)
    ]
    made = [
        sampler.from_sketch(sketch, f"sketch-{n}", found.start)
        for n, (sketch, _, _) in enumerate(found.sketches)
    ]
    seconds = time.perf_counter() - begin
    pairs = list(zip(found.crops, back, strict=True))
    fidelity = [
        check_fidelity((image + 1) / 2, labels, radius).f1
        for image, (_, labels, radius) in zip(made, found.sketches, strict=True)
    ]
    return {
        "psnr": float(np.mean([psnr(a, b, data_range=2.0) for a, b in pairs])),
        "ssim": float(np.mean([ssim(a, b, data_range=2.0) for a, b in pairs])),
        "fidelity": float(np.mean(fidelity)),
        "fidelity_low": bootstrap_interval(fidelity, lambda f: float(np.mean(f))).low,
        "spectrum": spectral_distance(found.real, made),
        "intensity": _texture_distance(found.real, made),
        "seconds": seconds,
        "n_crops": len(pairs),
        "n_sketches": len(made),
    }


def curve(
    lab: Laboratory, count: int = 12, steps: Sequence[int] = STEPS,
    samplers: Sequence[str] = SAMPLERS,
) -> pd.DataFrame:  # fmt: skip
    """Measure the full chain, and every sampler at every number of steps.

    The full chain is ancestral, one step per time, fp32. The others use the arithmetic
    of the config.
    """
    found = material(lab, count)
    # Two threads: nothing else runs while this measures.
    base = lab.config.synthesise.model_copy(update={"threads": 2, "tile": 224})
    full = base.model_copy(
        update={"sampler": "ddpm", "steps": found.start, "precision": "fp32",
                "compile": "never"}
    )  # fmt: skip
    rows = [{"sampler": "full chain", "steps": found.start, "precision": "fp32"}]
    rows[0] |= measure(found, full)
    for sampler in samplers:
        for number in steps:
            for precision in ("fp32", "bf16") if sampler == "ddim" else ("fp32",):
                options = {"sampler": sampler, "steps": number, "precision": precision}
                if sampler.endswith("dpmpp_2m"):
                    options["spacing"] = "log_snr"
                one = measure(found, base.model_copy(update=options))
                rows.append(options | one)
                print(f"  {options}: {one['psnr']:.2f} dB, spectrum "
                      f"{one['spectrum']:.3f}, fidelity {one['fidelity']:.3f}",
                      flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Relative losses beside the full chain; negative where a short one is better.

    PSNR, SSIM and fidelity count relative to their values; distances (of spectra, in
    decades, and of intensities) are small numbers already and count as differences.
    """
    full = table.iloc[0]
    lost = pd.DataFrame({
        name: 1 - table[name] / full[name] for name in ("psnr", "ssim", "fidelity")
    })  # fmt: skip
    for name in ("spectrum", "intensity"):
        lost[name] = table[name] - full[name]
    # Within the interval of the full chain's fidelity nothing is lost.
    low = full["fidelity_low"]
    lost.loc[table["fidelity"] >= low, "fidelity"] = np.minimum(lost["fidelity"], 0)
    return lost.assign(worst=lost.max(axis=1))


def rows(lab: Laboratory, on: str, folder: Path, count: int = 12) -> list[Row]:
    """Measure the curve, keep it as table and figure, and judge the defaults."""
    table = curve(lab, count)
    table = table.join(losses(table).add_prefix("loss_"))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "quality.csv", table.round(5).to_csv(index=False))
    draw(table, folder / "quality.png")
    chosen = lab.config.synthesise
    match = table[
        (table["sampler"] == chosen.sampler)
        & (table["steps"] == chosen.steps)
        & (table["precision"] == ("bf16" if chosen.precision == "bf16" else "fp32"))
    ]
    if match.empty:
        raise ValueError(f"the curve lacks {chosen.sampler} with {chosen.steps} steps")
    one, full = match.iloc[0], table.iloc[0]
    what = (
        f"largest loss of the default ({chosen.sampler}, {chosen.steps} steps) against "
        f"the full chain ({full['steps']} steps): PSNR, SSIM to real images and label "
        "fidelity as shares, distance of spectrum (decades) and of intensities (BD) as "
        f"differences; no AP50 of a segmenter in it; n = {full['n_crops']} crops of "
        f"held-out real images, {full['n_sketches']} sketches"
    )
    return [
        Row("engine.quality_loss", what, on, float(one["loss_worst"]), "", "<= 0.02",
            "python -m benchmarks quality", floor="0: the full chain itself")
    ]  # fmt: skip


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw quality against steps, a panel per measure."""
    names = {
        "psnr": "PSNR to the real image, dB", "ssim": "SSIM to the real image",
        "fidelity": "label fidelity, F1", "spectrum": "spectrum, decades off",
    }  # fmt: skip
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    full = table.iloc[0]
    for panel, (name, label) in zip(panels, names.items(), strict=True):
        for (sampler, precision), part in table.iloc[1:].groupby(
            ["sampler", "precision"]
        ):
            style = "--" if precision == "bf16" else "-"
            panel.plot(part["steps"], part[name], style, marker="o", ms=3,
                       label=f"{sampler}, {precision}")  # fmt: skip
        panel.axhline(full[name], color="black", lw=0.8, label="full chain")
        panel.set(xscale="log", xlabel="network evaluations", title=label)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
