"""Quality against steps, for each sampler, beside the full ancestral chain.

Two ways back are measured, both from t_start: of held-out real images, which come back
as something that can be compared with them, and of sketches, which come back as images
that must look like real ones and show what their labels say.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.laboratory import Laboratory
from benchmarks.quality_losses import (
    CONFIDENCE,
    MEASURES,
    PATCH,
    Comparison,
    Outcome,
    Sample,
    cut,
    judge,
    sample,
)
from benchmarks.table import Row
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.accelerate import Evaluator
from phantomscope.engine.distil import student_options
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.precision import pick_precision
from phantomscope.engine.sample import Sampler
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import (
    Normalisation,
    network_to_unit,
    unit_to_network,
)
from phantomscope.measure.fidelity import check_fidelity
from phantomscope.measure.image import psnr, ssim
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch

Float = NDArray[np.float32]
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m")
STEPS = (2, 5, 10, 15, 20, 50)
CROP, SIDE = 96, 192
MOST_REAL = 64
KEY = ["sampler", "steps", "spacing", "precision"]
FULL, AGAIN = "full chain", "full chain, other noise"


@dataclass(frozen=True, eq=False)
class Material:
    """What goes the way back: real crops, sketches with labels; and real images."""

    crops: list[Float]
    sources: list[str]
    sketches: list[tuple[Float, NDArray[np.uint16], float]]
    real: Sample
    transform: str
    model: DiffusionModel
    student: DiffusionModel | None
    start: int
    seed: int


def real_images(lab: Laboratory, split: str) -> dict[str, tuple[Float, str]]:
    """Return some images of a part as network values, with their groups."""
    scale = Normalisation.load(lab.normalisation)
    images = ImageSet.open(lab.prepared).select(split=split)
    return {
        i: (scale.forward(images.image(i), i), str(images.row(i)["group"]))
        for i in images.ids[:: -(-len(images) // MOST_REAL)]
    }


def real_sample(lab: Laboratory, value_range: tuple[float, float]) -> Sample:
    """Measure real images of both parts: all are what made ones should look like."""
    found = [real_images(lab, split) for split in ("train", "test")]
    pairs = [pair for images in found for pair in images.values()]
    # Few images must give all their patches.
    most = max(9, -(-MOST_REAL // len(pairs)))
    return sample([p[0] for p in pairs], [p[1] for p in pairs], value_range, most)


def material(lab: Laboratory, count: int, side: int = SIDE) -> Material:
    """Take `count` sketches, and fewer crops of held-out images."""
    model = DiffusionModel.load(lab.model)
    scale = Normalisation.load(lab.normalisation)
    crops = [
        (crop, identifier)
        for identifier, (image, _) in real_images(lab, "test").items()
        for crop in cut(image, CROP)
    ]
    most = max(count * 5 // 8, 1)
    crops = crops[:: max(1, len(crops) // most)][:most]
    parameters = SketchParameters.load(lab.sketch)
    options = lab.config.simulate.model_copy(update={"size": (side, side)})
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
    student = lab.folder / "student/model.pt"
    return Material(
        [c for c, _ in crops], [i for _, i in crops], sketches,
        real_sample(lab, model.value_range), scale.transform, model,
        DiffusionModel.load(student) if student.exists() else None,
        int(read_json(lab.start)["value"]), lab.config.seed,
    )  # fmt: skip


class Samplers:
    """Makes samplers that share one evaluator of each model and precision.

    So kernels are compiled once, not once for each number of steps. Compiled and eager
    kernels of one precision differ by rounding.
    """

    def __init__(self, compiled: bool = True) -> None:
        self.compiled = compiled
        self._known: dict[tuple[int, str], Evaluator] = {}

    def make(self, model: DiffusionModel, config: Synthesise, seed: int) -> Sampler:
        """Return a sampler with these options."""
        eager = config.model_copy(update={"compile": "never"})
        sampler = Sampler(model, eager, seed)
        key = (id(model), sampler.precision)
        if key not in self._known:
            self._known[key] = Evaluator(
                model.network, sampler.device, sampler.precision, self.compiled
            )
        sampler.evaluate = self._known[key]
        return sampler


def go_back(
    found: Material, sampler: Sampler, progress: Progress
) -> tuple[Outcome, float]:
    """Go both ways back; return what came, and the seconds."""
    config = sampler.config
    images: dict[str, Float] = {}
    begin = time.perf_counter()
    named = {f"crop-{n}": crop for n, crop in enumerate(found.crops)}
    named |= {f"sketch-{n}": one[0] for n, one in enumerate(found.sketches)}
    for name, image in named.items():
        images[name] = sampler.from_sketch(image, name, found.start)
        progress.advance(config.steps, f"{config.sampler}, {config.steps} steps")
    seconds = time.perf_counter() - begin
    back = [images[f"crop-{n}"] for n in range(len(found.crops))]
    made = [images[f"sketch-{n}"] for n in range(len(found.sketches))]
    pairs = list(zip(found.crops, back, strict=True))
    fidelity = [
        check_fidelity(network_to_unit(image, found.transform), labels, radius).f1
        for image, (_, labels, radius) in zip(made, found.sketches, strict=True)
    ]
    crops = {
        name: np.array([score(a, b, data_range=2.0) for a, b in pairs])
        for name, score in (("psnr", psnr), ("ssim", ssim))
    }
    each = [str(n).zfill(6) for n in range(len(made))]
    measured = sample(made, each, found.model.value_range)
    return Outcome(crops, {"fidelity": np.array(fidelity)}, measured), seconds


def key_of(config: Synthesise, student: bool = False) -> dict[str, Any]:
    """Return what tells settings apart in a table."""
    precision = pick_precision(config.precision, torch.device("cpu"))
    sampler = "student" if student else config.sampler
    return dict(
        zip(KEY, (sampler, config.steps, config.spacing, precision), strict=True)
    )


def full_chain(config: Synthesise, start: int) -> Synthesise:
    """Return the options of the full chain: ancestral, a step per time, fp32, eager."""
    return config.model_copy(
        update={"sampler": "ddpm", "steps": start, "precision": "fp32",
                "spacing": "uniform", "compile": "never"}
    )  # fmt: skip


def settings(
    base: Synthesise, start: int, steps: Sequence[int], samplers: Sequence[str]
) -> list[Synthesise]:
    """List what is compared; the first is the config's own."""
    found, both = [base], ("fp32", "bf16")
    for sampler in samplers:
        for number in steps:
            for precision in both if sampler == base.sampler else ("fp32",):
                options = {"sampler": sampler, "steps": number, "precision": precision}
                even = "log_snr" if sampler.endswith("dpmpp_2m") else "uniform"
                found.append(base.model_copy(update={**options, "spacing": even}))
    keys = [key_of(one) for one in found]
    return [
        one
        for n, one in enumerate(found)
        if one.steps <= start and keys[n] not in keys[:n]
    ]


def default_of(lab: Laboratory, found: Material) -> dict[str, Any]:
    """Return the key of what the config asks for."""
    if lab.config.distil.steps and found.student:
        own = student_options(found.student.meta, lab.config.synthesise, found.start)
        return key_of(own, student=True)
    return key_of(lab.config.synthesise)


def curve(
    lab: Laboratory, count: int = 12, steps: Sequence[int] = STEPS,
    samplers: Sequence[str] = SAMPLERS, side: int = SIDE, threads: int = 2,
    compiled: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Measure the full chain, and every sampler at every number of steps.

    The full chain is ancestral, one step per time, fp32; it goes once more with other
    noise, which tells what such differences mean. The others use the config's options.
    All kernels are compiled, unless `compiled` is false.
    """
    found = material(lab, count, side)
    # Two threads by default: nothing else runs while this measures.
    base = lab.config.synthesise.model_copy(update={"threads": threads, "tile": 224})
    full = full_chain(base, found.start)
    ways = [(FULL, full, found, found.model)]
    ways.append((AGAIN, full, replace(found, seed=found.seed + 1), found.model))
    for one in settings(base, found.start, steps, samplers):
        ways.append((one.sampler, one, found, found.model))
    if found.student:
        own = student_options(found.student.meta, base, found.start)
        ways.append(("student", own, found, found.student))
    total = sum(way[1].steps for way in ways)
    total *= len(found.crops) + len(found.sketches)
    table, default = [], default_of(lab, found)
    comparison: Comparison | None = None
    makers = Samplers(compiled)
    with Progress("quality against steps", total, unit="evaluations") as progress:
        for name, options, given, model in ways:
            sampler = makers.make(model, options, given.seed)
            outcome, seconds = go_back(given, sampler, progress)
            comparison = comparison or Comparison(found.real, outcome, found.sources)
            own_key = key_of(options) | {"sampler": name}
            row = own_key | comparison.values(outcome) | comparison.losses(outcome)
            row |= {"default": own_key == default, "seconds": seconds}
            table.append(row)
    assert comparison is not None
    return pd.DataFrame(table).assign(**_sizes(found, comparison, outcome))


def _sizes(found: Material, comparison: Comparison, last: Outcome) -> dict[str, Any]:
    return {
        "n_crops": len(found.crops),
        "n_crop_groups": comparison.n_crop_groups,
        "crop_unit": comparison.crop_unit,
        "n_sketches": len(found.sketches),
        "n_patches": len(last.made.owner),
        "n_real": len(found.real.groups),
        "n_real_groups": found.real.n_groups,
        "n_real_patches": len(found.real.owner),
    }


def rounded(table: pd.DataFrame) -> str:
    """Return a table as CSV with numbers that have five significant digits."""
    return str(table.to_csv(index=False, float_format="%.5g"))


def rows(
    lab: Laboratory, on: str, folder: Path, count: int = 12, *, suffix: str = "",
    command: str = "python -m benchmarks quality", **of_curve: Any,
) -> list[Row]:  # fmt: skip
    """Measure the curve, keep it as table and figure, and judge the defaults."""
    table = curve(lab, count, **of_curve)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "quality.csv", rounded(table))
    draw(table, folder / "quality.png")
    return stored_rows(folder, on, suffix=suffix, command=command)


def stored_rows(
    folder: Path, on: str, *, suffix: str = "",
    command: str = "python -m benchmarks quality",
) -> list[Row]:  # fmt: skip
    """Judge the defaults by the tables that are stored: the curve and, if any, AP50."""
    table = pd.read_csv(folder / "quality.csv")
    one, again = table[table["default"]].iloc[0], table.iloc[1]
    judged = {name: one for name in MEASURES}
    segmented = "no AP50 of a segmenter in it"
    other = folder / "quality_ap50.csv"
    known = pd.read_csv(other).dropna(subset="loss_ap50") if other.exists() else None
    if known is not None and (found := same_setting(known, one)) is not None:
        judged["ap50"] = found
        segmented = (
            f"AP50 of {found['tool']} trained on {found['images']} images made either "
            f"way from the same sketches, {found['seeds']} seeds (interval over "
            f"{found['n']} x {found['unit']})"
        )
    lost = {name: float(row[f"loss_{name}"]) for name, row in judged.items()}
    counted = {n: judge(lost[n], float(row[f"low_{n}"])) for n, row in judged.items()}
    worst, raw = (max(values, key=values.get) for values in (counted, lost))  # type: ignore[arg-type]
    what = (
        f"{_what(one, table.iloc[0])}; {segmented}. Largest that counts: {worst}; "
        f"largest without regard to intervals: {lost[raw]:.3f} ({raw}, interval "
        f"{judged[raw][f'low_{raw}']:.3f} to {judged[raw][f'high_{raw}']:.3f})"
    )
    floor = (
        f"0: the full chain itself; with other noise it loses {again['worst']:.3f} "
        f"judged alike, {again['raw']:.3f} without regard to intervals"
    )
    return [
        Row(f"engine.quality_loss{suffix}", what, on, counted[worst], "", "<= 0.02",
            command, floor=floor)
    ]  # fmt: skip


def same_setting(table: pd.DataFrame, one: Mapping[str, Any]) -> pd.Series | None:
    """Return the row of a table with the same sampler, steps, spacing, precision."""
    same = np.logical_and.reduce([table[name] == one[name] for name in KEY])
    return table[same].iloc[0] if same.any() else None


def _what(one: Mapping[str, Any], full: Mapping[str, Any]) -> str:
    """Say what is compared, and how each measure is judged."""
    return (
        f"largest loss of the default ({one['sampler']}, {one['steps']} steps, "
        f"{one['precision']}) against the full chain ({full['steps']} steps). A "
        f"measure's loss counts in full, but as none where the {CONFIDENCE:.0%} "
        "interval of the paired difference reaches 0: PSNR and SSIM of "
        f"{one['n_crops']} crops of held-out real images (interval over "
        f"{one['n_crop_groups']} x {one['crop_unit']}); label fidelity, spectrum "
        "(factor in power), shared intensities, texture Fréchet and kernel distance "
        f"of {one['n_sketches']} images from sketches ({one['n_patches']} patches of "
        f"{PATCH} px) to {one['n_real']} real ones ({one['n_real_patches']} patches; "
        f"interval over sketches and {one['n_real_groups']} image groups)"
    )


PANELS = {
    "psnr": "PSNR to the real image, dB", "ssim": "SSIM to the real image",
    "fidelity": "label fidelity, F1", "spectrum": "spectrum, decades off",
    "intensity": "intensities, Bhattacharyya", "frechet": "texture Fréchet distance",
    "kernel": "texture kernel distance", "worst": "largest loss that counts",
}  # fmt: skip


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw quality against steps, a panel per measure."""
    figure, panels = plt.subplots(2, 4, figsize=(13, 5.6), layout="constrained")
    full, again, short = table.iloc[0], table.iloc[1], table.iloc[2:]
    for panel, (name, label) in zip(panels.flat, PANELS.items(), strict=True):
        for (sampler, precision, _), part in short.groupby(
            ["sampler", "precision", "spacing"]
        ):
            style = "--" if precision == "bf16" else "-"
            part = part.sort_values("steps")
            panel.plot(part["steps"], part[name], style, marker="o", ms=3,
                       label=f"{sampler}, {precision}")  # fmt: skip
        panel.axhline(full[name], color="black", lw=0.8, label="full chain")
        panel.axhline(again[name], color="black", lw=0.8, ls=":", label="other noise")
        panel.set(xscale="log", title=label)
        ticks = sorted(set(short["steps"]))
        panel.set_xticks(ticks, [str(n) for n in ticks])
        panel.minorticks_off()
        if name in ("frechet", "kernel", "worst", "spectrum", "intensity"):
            panel.set_yscale("symlog", linthresh=0.01)
    for panel in panels[-1]:
        panel.set_xlabel("network evaluations")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, fontsize=8, ncols=len(names), loc="outside upper center"
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)
