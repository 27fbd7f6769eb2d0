"""Published values, and tables with ours beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from phantomscope.config.datasets import CHECKOUT
from phantomscope.errors import PhantomscopeError
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.filter_metrics import define
from phantomscope.tables.instances import definitions as instance_definitions
from phantomscope.tables.results import ResultRow

FOLDER = Path("config/published")
COLUMNS = [item.name for item in fields(ResultRow)]
# What the data of a paper itself is called in a row, and the scale of the paper.
OWN_DATA, OWN_SCALE = "real", "paper"
NOT_RUN, NOT_PUBLISHED = "not run", "not in the paper"
DEFINITIONS = {
    "psnr": "Peak signal-to-noise ratio against the real image, dB: intensities "
    "clipped to [0, 1], data range 1; mean over images.",
    "ssim": "Structural similarity to the real image: intensities clipped to [0, 1], "
    "data range 1, equal weights over 7 pixels along each axis; mean over images. "
    "The paper does not state its window.",
    "mae": "Mean absolute error against the real image, intensities clipped to "
    "[0, 1]; mean over images.",
    "kld": "Kullback-Leibler divergence of the histogram of noised images from that "
    "of noised sketches, nats: pooled over the training part, equal bins over the "
    "range of both, 1e-12 added to each. The paper states neither bins nor direction.",
    "kld_reverse": "The same divergence of noised sketches from noised images.",
    "bd": "Bhattacharyya distance, -ln sum sqrt(p q), of the same histograms.",
    "bd_intensity": "Bhattacharyya distance of the intensities of an image from those "
    "of the real one, 256 bins; mean over images.",
    "bd_texture": "Bhattacharyya distance of fine texture, the difference from a "
    "Gaussian mean of 1 px, from that of the real image, 256 bins; mean over images.",
    "spectrum": "Distance of the radial power spectrum from that of the real image: "
    "mean absolute difference of log10 of the power; mean over images.",
    "f1": "Label fidelity: F1 at IoU 0.5 of an independent re-segmentation of the "
    "image against the labels; mean over images.",
    "phantoms": "Bright objects without a label, as a share of the labelled ones; "
    "mean over images.",
    "dice": "Dice per cell: each true cell with the predicted object that overlaps it "
    "most, 0 where none does; mean over cells.",
    "fidelity_dice": "Label fidelity: Dice per cell of an independent re-segmentation "
    "of the image against the labels; mean over images.",
    "dice_ratio": "Dice per cell trained on synthetic images over that trained on "
    "real annotation; paired bootstrap.",
    "ncc_mean": "Normalised cross-correlation of an image with the training patch that "
    "is most like it, under the eight symmetries of the square; mean over the images. "
    "The paper does not say whether images may shift: `all shifts` is the largest over "
    "all circular shifts, `zero lag` that without any.",
    "ncc_max": "Largest over the images of what `ncc_mean` averages.",
    "ncc_images": "Images of which that was measured.",
    "ncc_nearer": "Mean of the generated images minus that of real held-out ones, both "
    "with the training patches; images, and groups of held-out ones, are drawn anew.",
    "ncc_gap": "Mean over the generated images of the best correlation with training "
    "patches minus that with as many held-out ones; above 0 they are nearer to what "
    "was trained on.",
    "ncc_flagged": "Generated images that stand out as copies; without any copy 5% of "
    "the runs would flag one.",
    "frc_nm": "Resolution by Fourier ring correlation with the true image, nm: where "
    "it first falls below 1/7. It tells accuracy, not the resolution of two "
    "independent halves. The paper states neither the number of images nor whether it "
    "is a mean over images or blocks.",
    "frc_half_bit_nm": "As `frc_nm`, where it falls below the half-bit curve.",
    "frc_ratio": "Resolution of one arm over that of another, paired by image; below 1 "
    "the first is finer.",
    "frc_map_mean_nm": "As `frc_nm` within each of 10 x 10 blocks of an image: mean "
    "over the blocks that have one; mean over images.",
    "frc_map_sd_nm": "Standard deviation over these blocks; mean over images.",
    "frc_map_min_nm": "The finest of these blocks; mean over images.",
    "restored_psnr": "Peak signal-to-noise ratio of a restored image against the true "
    "one, dB: percentiles 0.1 and 99.9 of the truth become 0 and 1, the image is "
    "scaled to it by least squares; mean over images.",
    "restored_ssim": "Structural similarity after the same; mean over images.",
    "nrmse": "Root mean square error after the same; mean over images.",
    "snr": "Signal-to-noise ratio of widefield images: mean signal of the brightest "
    "tenth of the pixels by the standard deviation of their noise.",
    "train_images": "Images that the diffusion model was trained on.",
    "train_patches": "Patches of these on a grid, with those flipped and turned. The "
    "paper trains on them; here patches are cut at random places, and this is how "
    "many the grid of the audit gives.",
    "train_steps": "Optimiser steps of the diffusion model.",
    "train_hours": "Hours of its training, by the median rate of its steps.",
    "parameters": "Weights of the diffusion model.",
    "generated_images": "Images that it made.",
    "sample_seconds": "Seconds for each of them, starts of programs included; sizes "
    "and steps stand in the method.",
    "stain_mse": "Mean squared error of a predicted stain, squared grey values: both "
    "clipped to percentiles, which become 0 and 255; mean over stains in each image, "
    "then over images. The paper does not say over what.",
    "stain_mse_sd": "Standard deviation of the same.",
    "stain_mae": "Mean absolute error of a predicted stain in the same grey values.",
    "stain_psnr": "Peak signal-to-noise ratio of a predicted stain, dB: the same grey "
    "values, a peak of 255.",
    "stain_ssim": "Structural similarity of a predicted stain: the same grey values, a "
    "data range of 255, Gaussian window.",
    "stain_correlation": "Pearson correlation of the pixels of a predicted stain with "
    "those of the real one.",
    "psnr_ratio": "PSNR of residual diffusion by that of a rival, paired by image.",
    "ssim_ratio": "The same of SSIM.",
    "feature_correlation": "Correlation of morphological features of real and "
    "predicted stains, mean over the features of a category; ours beside the paper's: "
    "Pearson's, over medians of sites, objects found on each image set.",
    "replicate_map": "Mean average precision of finding the other wells of a compound "
    "by the profile of a well (cosine), within a cell line; interval over compounds.",
    "replicate_map_chance": "What a random order would give.",
    **{
        f"{metric}_{name}": f"{metric.upper()} of predicted stains, residual diffusion "
        f"against a rival on the same images: {text}."
        for metric in ("mse", "psnr", "ssim")
        for name, text in (
            ("difference", "difference, mean over wells (blocks)"),
            (
                "student_t_images",
                "p-value of a two-sample t-test over images, as the "
                "paper seems to have it; images of a well are no independent evidence",
            ),
            ("student_t", "p-value of a two-sample t-test over wells (blocks)"),
            ("paired_t", "p-value of a paired t-test over wells (blocks)"),
            ("paired_t_holm", "the same, corrected by Holm's method"),
            ("wilcoxon", "p-value of Wilcoxon's signed-rank test over wells (blocks)"),
            ("wilcoxon_holm", "the same, corrected by Holm's method"),
        )
    },
    **instance_definitions(),
    "image_seconds": "Seconds to predict all channels of one image, of all predictions "
    "whose mean is measured, without the start of the program; median over images.",
    "images_per_second": "Images per second, by the same.",
    "speedup": "Seconds per image of Palette by those of residual diffusion.",
    "steps": "Network evaluations of one prediction of an image.",
    "uncertainty_calibration": "Root mean squared error of what is measured by what "
    "the spread of predictions foretells, sqrt(1 + 1/n) times their standard deviation "
    "if the mean of n is measured; pooled over images. 1 is calibrated, above 1 too "
    "sure.",
    "uncertainty_rank_correlation": "Spearman correlation of the spread of a pixel "
    "with its absolute error; mean over images.",
    "artefact_change": "Absolute change of a predicted stain inside an artefact that "
    "was planted in brightfield alone, grey values of 0 to 255; mean over artefacts.",
    "artefact_around": "The same in a ring around it.",
    "artefact_signed": "Change inside minus that in the ring, with its sign: below 0 "
    "the stain gets darker.",
    "artefact_contrast": "Change inside by that in the ring (at least 0.5).",
    "artefact_share": "Change inside by that of the brightfield there.",
    "spread_auc": "Probability that the spread of a pixel inside an artefact is larger "
    "than that of one far from all; 0.5 says nothing; mean over artefacts.",
    "spread_auc_clean": "The same at the same place without the artefact.",
    "candidate_spots": "Dark round spots in a real brightfield image, as large as "
    "artefacts; mean over images.",
    "artefact_found": "Share of the planted artefacts that the same rule finds.",
    "care_pairs": "Pairs of a widefield and a super-resolution patch that CARE was "
    "trained on, in each arm.",
}


def find_published(paper: str) -> Path:
    """Return the file of the published values of a paper.

    It is looked for where you run, then in the checkout of this program.
    """
    name = FOLDER / f"{paper}.csv"
    for path in (name, CHECKOUT / name):
        if path.is_file():
            return path
    raise PhantomscopeError(
        f"there are no published values of {paper!r}",
        where=name,
        fix="run in the folder of the workflow, or add the file",
    )


def load_published(paper: str) -> list[ResultRow]:
    """Read the published values of a paper.

    Parameters
    ----------
    paper : str
        Name of a file in ``config/published/``, such as ``eschweiler``.

    Returns
    -------
    list of ResultRow
        n is 0 where the paper does not say how many there are.

    Raises
    ------
    PhantomscopeError
        If the file is missing or broken, lacks a column, repeats an id or holds a
        value that is no finite number.
    """
    path = find_published(paper)
    rows = read_rows(path)
    bad = [row.id for row in rows if not math.isfinite(row.value)]
    if bad:
        raise PhantomscopeError(
            f"the value of {bad[0]} is no finite number",
            where=path,
            fix="write the number that the paper prints",
        )
    return rows


def read_rows(path: Path) -> list[ResultRow]:
    """Read a CSV whose columns are those of `ResultRow`.

    Raises
    ------
    PhantomscopeError
        If the file is missing or broken, lacks a column or repeats an id.
    """
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise PhantomscopeError(
            f"this table lacks the columns {', '.join(missing)}",
            where=path,
            fix="write the columns of `ResultRow`, as config/published/eschweiler.csv",
        )
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise PhantomscopeError(
            f"the id {repeated.iloc[0]!r} occurs twice",
            where=path,
            fix="give each value an id of its own",
        )
    values = pd.to_numeric(table["value"], errors="coerce")
    numbers = {
        "value": values, "n": pd.to_numeric(table["n"]).fillna(0).astype(int),
        "ci_low": table["ci_low"].astype(float),
        "ci_high": table["ci_high"].astype(float),
    }  # fmt: skip
    texts = table[[name for name in COLUMNS if name not in numbers]]
    # A column without any text is one of numbers to pandas.
    texts = texts.astype(object).fillna("")
    records = texts.astype(str).assign(**numbers)[COLUMNS].to_dict("records")
    return [ResultRow(**{str(k): v for k, v in row.items()}) for row in records]


def published_sd(row: ResultRow) -> float:
    """Return the standard deviation that a published row states, else NaN."""
    found = re.search(r"\bsd ([\d.]+)", row.source)
    return float(found[1]) if found else math.nan


def remark(row: ResultRow) -> str:
    """Say what keeps a value of ours from being compared with a published one."""
    words = []
    if row.data_kind != OWN_DATA:
        words.append(f"{row.data_kind} data ({row.dataset})")
    if row.scale != OWN_SCALE:
        words.append(f"reduced scale ({row.scale})")
    return ", ".join(words)


def beside(published: Sequence[ResultRow], ours: Sequence[ResultRow]) -> pd.DataFrame:
    """Join published values and ours on their id.

    Parameters
    ----------
    published, ours : sequence of ResultRow
        A value of ours that stands for a published one has the same id.

    Returns
    -------
    DataFrame
        All published rows in their order, then ours that were not published. Columns:
        id; dataset (of the paper), metric, condition; published, published_source;
        ours, ci_low, ci_high, n, unit_of_n, data_kind, scale, dataset_used,
        experiment, method;
        remark (``not run``, ``not in the paper``, and what data of ours stand in for,
        in the same row as their value); definition of the metric.

    Raises
    ------
    PhantomscopeError
        If one side names an id twice.
    """
    known, mine = _by_id(published, "published"), _by_id(ours, "ours")
    rows = []
    for key in dict.fromkeys([*known, *mine]):
        theirs, own = known.get(key), mine.get(key)
        either = theirs or own
        assert either is not None  # the key is that of one of them
        words = [
            NOT_RUN if own is None else remark(own),
            NOT_PUBLISHED if theirs is None else "",
        ]
        rows.append({
            "id": key,
            "dataset": theirs.dataset if theirs else "",
            "metric": either.metric,
            "condition": either.condition,
            "published": theirs.value if theirs else math.nan,
            "published_source": theirs.source if theirs else "",
            "ours": own.value if own else math.nan,
            "ci_low": own.ci_low if own else math.nan,
            "ci_high": own.ci_high if own else math.nan,
            "n": own.n if own else 0,
            "unit_of_n": own.unit_of_n if own else "",
            "data_kind": own.data_kind if own else "",
            "scale": own.scale if own else "",
            "dataset_used": own.dataset if own else "",
            "experiment": own.experiment if own else "",
            "method": own.method if own else "",
            "remark": "; ".join(word for word in words if word),
            "definition": DEFINITIONS.get(either.metric) or define(either.metric),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _by_id(rows: Sequence[ResultRow], side: str) -> dict[str, ResultRow]:
    found: dict[str, ResultRow] = {}
    for row in rows:
        if row.id in found:
            raise PhantomscopeError(
                f"two of the {side} values have the id {row.id!r}",
                where=row.source,
                fix="give two results folders two organisms (`appearance.organism`)",
            )
        found[row.id] = row
    return found
