"""What the tables of translation say in sentences, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phantomscope.config.model import Config
from phantomscope.config.perceptual import LEFT_OUT
from phantomscope.images.files import write_text
from phantomscope.measure.statistics import FEWEST_GROUPS
from phantomscope.tables.instances import table_lines
from phantomscope.tables.results import ResultRow, write_long
from phantomscope.tables.translation import (
    TITLES,
    instance_tables,
    ratio_lines,
    translation_table,
)


def detector_notes(config: Config) -> list[str]:
    """Return what StarDist was trained on, in a sentence."""
    options, seen = config.translate, []
    for detector in options.detectors:
        seen += [
            options.plates.wanted[options.detector_channel(detector, kind)]
            + f" ({kind})"
            for kind in options.detected
        ]
    if not seen:
        return []
    given = config.segment.stardist
    said = (
        f"StarDist was trained on {', '.join(seen)} of the same training part: "
        f"{given.steps} steps of {given.batch_size} patches of {given.patch} px."
    )
    if "fluorescence" in options.detectors:
        said += " On a real stain it sees what the others have to predict."
    return [said]


def translation_notes(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what the numbers mean, in sentences."""
    if not rows:
        return ["Nothing was measured."]
    first, level = rows[0], 100 * config.evaluate.confidence
    n = max(row.n for row in rows)
    options = config.translate
    interval = (
        f"Intervals ({level:g}%): bootstrap over {n} units ({first.unit_of_n}); ratios "
        "are paired; seeds are averaged, not resampled."
        if n >= FEWEST_GROUPS
        else f"There are {n} units ({first.unit_of_n}): too few for intervals."
    )
    blocks = (
        f" Blocks of {options.blocks} px of one image are no independent samples: "
        "intervals say how much the image varies, not how much plates do."
        if options.blocks
        else ""
    )
    return [
        f"Measured on the test part ({first.dataset}; data kind: {first.data_kind}; "
        f"scale of the run: {first.scale}), split by {options.plates.split_by}.",
        "Each channel is clipped to percentiles "
        f"{options.low_percentile:g} and {options.high_percentile:g} of "
        f"{'its own image' if options.scope == 'image' else 'its plate'}, which become "
        "0 and 255; MSE in squared grey values, PSNR with a peak of 255, SSIM with a "
        "data range of 255 and a Gaussian window, Pearson correlation of the pixels: "
        "mean over stains in each image, then over images.",
        "Instances are read off the predicted boundaries and matched one to one at an "
        "IoU, 0.5 where nothing else is said; scores are pooled over images. IoU of "
        "matched: mean over the pairs that match, whatever was missed (the number of "
        "the paper's abstract). The mean over images (or blocks) takes 0 where one has "
        "nothing to divide by, and leaves out those without any true and found object.",
        *detector_notes(config),
        *_averaged_notes(config),
        *_perceptual_notes(config),
        interval + blocks,
    ]


def _averaged_notes(config: Config) -> list[str]:
    """Say of which methods the mean of several predictions is measured."""
    options = config.translate
    counts = {method: options.averaged_of(method) for method in options.methods}
    return [
        f"{TITLES[method]}: the mean of {count} predictions is measured, which errs "
        "less than one of them and has less texture."
        for method, count in counts.items()
        if count > 1
    ]


def _perceptual_notes(config: Config) -> list[str]:
    """Say if an error that was wanted was left out, for want of its weights."""
    wanted = map(config.translate.perceptual_of, config.translate.methods)
    if all(error is None or error.weights for error in wanted):
        return []
    return [LEFT_OUT[0].upper() + LEFT_OUT[1:] + "."]


def write_translation(
    rows: Sequence[ResultRow], csv: Path, md: Path, config: Config,
    further: Sequence[tuple[Sequence[ResultRow], Sequence[str]]] = (),
) -> None:  # fmt: skip
    """Write the long CSV table and the Markdown table.

    What is `further` to the rows has its own lines of Markdown.
    """
    write_long([*rows, *(row for more, _ in further for row in more)], csv)
    lines = table_lines(translation_table(rows))
    if ratios := ratio_lines(rows):
        lines += ["PSNR of residual diffusion by that of a rival:", ""]
        lines += [f"- {rival}: {ratio}" for rival, ratio in ratios]
        lines.append("")
    for title, shown in instance_tables(rows).items():
        lines += [f"{title}:", "", *table_lines(shown)]
    lines += [f"- {line}" for line in translation_notes(rows, config)]
    for _, text in further:
        lines += ["", *text]
    write_text(Path(md), "\n".join(lines) + "\n")
