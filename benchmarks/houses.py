"""Two houses joined: semantic filtering on synthetic sets, diffusion behind crops.

What is trained stays under `results/houses`, in a folder whose name tells the sizes;
what is finished there is not made again. Tables and pictures go to
`benchmarks/results/houses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import houses_figures, houses_grounds, houses_phantoms
from benchmarks.houses_lab import House, Sizes
from benchmarks.laboratory import ROOT
from benchmarks.quality import rounded
from benchmarks.quality_ap50 import REFERENCE, Sets, Way, compare
from benchmarks.quality_losses import judge
from benchmarks.table import Row
from phantomscope.config.model import Config
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.fidelity import count_phantoms
from phantomscope.measure.found import light_of

COMMAND = "python -m benchmarks houses"
TABLES = ROOT / "benchmarks/results/houses"
TOOL = "stardist"
SAID = {
    "filter": "the scene that the filter makes of a draw",
    "patched": "a draw with that scene where it is brighter",
    "spared": "the same outside labels only",
    "median": "the median of all draws",
    "median_spared": "a draw with the median of all where it is brighter, outside "
    "labels only",
    "best": "of all draws the one with fewest phantoms, by this very count",
    "dropped": "draws that the check of the workflow keeps for their phantoms",
}


TITLES = {
    "draw": "none", "scene": "filter", "patched": "patched",
    "outside labels": "spared", "median of draws": "median",
}  # fmt: skip


class Segmented(Sets):
    """Segmenters trained on draws as they are, and on what became of them."""

    def __init__(self, house: House) -> None:
        self.lab, self.config, self.folder = house.lab, house.lab.config, house.folder

    def config_of(self, way: Way) -> Config:
        """Return the config: all ways have the same."""
        return self.config

    def key_of(self, way: Way) -> dict[str, Any]:
        """Return nothing more than the name: samplers are the same."""
        return {}

    def gathered(self, way: Way) -> Path:
        """Return the folder of the whole set."""
        name = "none" if way.name == REFERENCE else way.name
        return self.folder / "sets" / name


def rows(_: Path) -> list[Row]:
    """Measure both houses, keep tables and pictures."""
    house = House(ROOT / "results/houses", Sizes())
    house.prepare()
    return rows_of(house, TABLES)


def rows_of(house: House, tables: Path) -> list[Row]:
    """Measure both houses, with tables and pictures in a folder."""
    tables.mkdir(parents=True, exist_ok=True)
    return [
        *phantom_rows(house, tables), *ground_rows(house, tables),
        *segmented_rows(house, tables),
    ]  # fmt: skip


def phantom_rows(house: House, tables: Path) -> list[Row]:
    """Measure the removers of phantoms."""
    draws = houses_phantoms.make_draws(house)
    found = houses_phantoms.measure(house, draws)
    write_text(tables / "phantoms_per_draw.csv", rounded(found.table))
    table = houses_phantoms.summary(house, found)
    write_text(tables / "phantoms.csv", rounded(table))
    picture(house, draws, tables / "phantoms.png")
    own, known = house.sizes, table.set_index("method")
    none = known.loc["none"]
    on = (
        f"{own.sketches} sketches x {own.draws} draws, model of {own.steps} steps, "
        f"t_start {own.start}: {none['phantoms_per_object']:.3f} phantoms per object"
    )
    made = []
    for method, said in SAID.items():
        row = known.loc[method]
        changes = ", ".join(
            f"{name} x {row[f'{score}_ratio']:.3f} ({row[f'{score}_low']:.3f} to "
            f"{row[f'{score}_high']:.3f})"
            for name, score in (
                ("light where phantoms were", "phantom_light"),
                ("light of objects", "light"), ("vanished objects", "vanished"),
                ("Dice with a segmentation", "dice"),
            )
        )  # fmt: skip
        what = (
            f"phantoms per object, after over before: {said} (95% CI "
            f"{row['phantoms_low']:.3f} to {row['phantoms_high']:.3f}, "
            f"{own.sketches} x sketch); {changes}"
        )
        if method == "dropped":
            what += f"; it keeps {row['images'] / none['images']:.2f} of them"
        made.append(Row(f"houses.phantoms_{method}", what, on,
                        float(row["phantoms_ratio"]), "", "< 1", COMMAND))  # fmt: skip
        if np.isfinite(row["loss_frechet"]):
            made.append(texture_row(method, row, on))
    return made


def texture_row(method: str, row: Mapping[str, Any], on: str) -> Row:
    """Return what the images of a method lose in likeness to real ones."""
    lost = {
        name: judge(float(row[f"loss_{name}"]), float(row[f"low_{name}"]))
        for name in ("frechet", "spectrum")
    }
    said = ", ".join(
        f"{long} {row[f'loss_{name}']:.3f} ({row[f'low_{name}']:.3f} to "
        f"{row[f'high_{name}']:.3f})"
        for name, long in (("frechet", "texture Fréchet"), ("spectrum", "spectra"))
    )
    what = (
        "largest growth of distances to real images against draws as they are, none "
        f"where the interval reaches 0: {SAID[method]} ({said})"
    )
    return Row(f"houses.texture_{method}", what, on, max(lost.values()), "", "<= 0.02",
               COMMAND)  # fmt: skip


def picture(house: House, draws: ImageSet, out: Path, count: int = 5) -> None:
    """Show the draws with the most phantoms, one of each sketch."""
    scale = houses_phantoms.Scale.of(house)
    columns = []
    for one in houses_phantoms.read_draws(house, draws):
        made = one.made(scale.least, scale.step)
        counts = [
            count_phantoms(scale.unit(image, one.limits), one.labels, scale.area)
            for image in one.images
        ]
        worst = int(np.argmax(counts))
        shown = {
            title: scale.unit(
                made[method][worst if len(made[method]) > 1 else 0], one.limits
            )
            for title, method in TITLES.items()
        }
        columns.append((counts[worst], {"labels": one.labels} | shown))
    columns.sort(key=lambda pair: -pair[0])
    shown_columns = [column for _, column in columns[:count]]
    houses_figures.draw_phantoms(shown_columns, scale.area, out)


def ground_rows(house: House, tables: Path) -> list[Row]:
    """Measure synthesised backgrounds."""
    table, phantoms = houses_grounds.measure(house)
    write_text(tables / "backgrounds.csv", rounded(table))
    grounds = ImageSet.open(house.folder / "grounds")
    real = ImageSet.open(house.folder / "backgrounds/real").select(split="train")
    light = light_of(house.composer.filter)

    def unit(images: ImageSet, name: str) -> NDArray[np.float32]:
        return light.to_unit(images.image(name))

    houses_figures.draw_grounds(
        (unit(real, real.ids[0]), real.mask(real.ids[0])),
        [unit(grounds, name) for name in grounds.ids],
        ImageSet.open(house.folder / "composed"), house.composer.filter,
        tables / "backgrounds.png",
    )  # fmt: skip
    known = table.set_index("backgrounds")
    real_row, made = known.loc["real"], []
    for arm, said in (
        ("diffusion", "of empty sketches only"), ("both", "of empty sketches, too")
    ):  # fmt: skip
        row = known.loc[arm]
        on = (
            f"{house.sizes.tests} images composed of held-out crops and real "
            f"backgrounds, {len(house.sizes.seeds)} seed(s); {phantoms:.3f} phantoms "
            "in a synthesised background per object in a real image (without cells "
            "the brightest clouds are above the threshold)"
        )
        interval = f"{row['f1_ratio_low']:.3f} to {row['f1_ratio_high']:.3f}"
        what = (
            f"F1 of large nuclei ({row['f1']:.3f}), a filter that learnt with "
            f"backgrounds {said}, over that with real ones ({real_row['f1']:.3f}; 95% "
            f"CI {interval}); on the held-out part of the real image itself "
            f"{row['f1_real_image']:.3f} and {real_row['f1_real_image']:.3f}"
        )
        gain = f"{row['psnr_gain_low']:.3f} to {row['psnr_gain_high']:.3f}"
        also = (
            f"PSNR of the target layer, backgrounds {said}, minus that with real ones "
            f"({real_row['psnr']:.2f} dB; 95% CI {gain})"
        )
        made += [
            Row(f"houses.f1_backgrounds_{arm}", what, on, float(row["f1_ratio"]), "",
                ">= 1", COMMAND),
            Row(f"houses.psnr_backgrounds_{arm}", also, on, float(row["psnr_gain"]),
                "dB", ">= 0", COMMAND),
        ]  # fmt: skip
    return made


def segmented_rows(house: House, tables: Path) -> list[Row]:
    """Train StarDist on draws as they are and on patched ones."""
    if not house.sizes.segment_steps:
        return []
    draws = houses_phantoms.make_draws(house)
    ways = [Way(REFERENCE), Way("patched"), Way("spared")]
    houses_phantoms.write_sets(house, draws, ["none", "patched", "spared"])
    sets = Segmented(house)
    sets.segment(ways, TOOL, house.sizes.seeds)
    table = compare(sets, ways, TOOL)
    write_text(tables / "segmented.csv", rounded(table))
    known = table.set_index("way")
    full = known.loc[REFERENCE, "ap50"]
    return [
        Row(f"houses.ap50_loss_{way.name}",
            f"AP50 of {TOOL} trained on {row['images']} synthetic images, loss by: "
            f"{SAID[way.name]} ({row['ap50']:.3f} instead of {full:.3f}; 95% CI of the "
            f"loss {row['low_ap50']:.3f} to {row['high_ap50']:.3f}, {row['n']} x "
            f"{row['unit']}, {row['seeds']} seed(s))",
            "held-out part of the real image", float(row["loss_ap50"]), "", "none",
            COMMAND)
        for way, row in ((way, known.loc[way.name]) for way in ways[1:])
    ]  # fmt: skip
