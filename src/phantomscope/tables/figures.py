"""All figures of an experiment, by name."""

from __future__ import annotations

from pathlib import Path

from phantomscope.tables.copies import plot_copies
from phantomscope.tables.figures_curves import (
    plot_average_precision,
    plot_costs,
    plot_fit,
    plot_realism,
    plot_start,
    plot_training,
)
from phantomscope.tables.figures_filter_curves import (
    plot_learning_curve,
    plot_quality,
    plot_threshold,
)
from phantomscope.tables.figures_filtering import plot_detections, plot_layers
from phantomscope.tables.figures_images import (
    plot_checks,
    plot_gallery,
    plot_memorisation,
    plot_overlays,
    plot_pseudo,
)
from phantomscope.tables.figures_instances import plot_instances, plot_matching
from phantomscope.tables.figures_pairs import plot_training_pairs
from phantomscope.tables.figures_populations import plot_populations
from phantomscope.tables.figures_profiles import plot_features
from phantomscope.tables.figures_restoration import plot_frc_curves, plot_restoration
from phantomscope.tables.figures_studies import (
    plot_artefacts,
    plot_reliability,
    plot_spread,
    plot_steps,
)
from phantomscope.tables.figures_translation import plot_stain_quality, plot_stains
from phantomscope.tables.style import Plot

__all__ = [
    "FIGURES",
    "available",
    "plot_artefacts",
    "plot_average_precision",
    "plot_checks",
    "plot_copies",
    "plot_costs",
    "plot_detections",
    "plot_features",
    "plot_fit",
    "plot_frc_curves",
    "plot_gallery",
    "plot_instances",
    "plot_layers",
    "plot_learning_curve",
    "plot_matching",
    "plot_memorisation",
    "plot_overlays",
    "plot_populations",
    "plot_pseudo",
    "plot_quality",
    "plot_realism",
    "plot_reliability",
    "plot_restoration",
    "plot_spread",
    "plot_stain_quality",
    "plot_stains",
    "plot_start",
    "plot_steps",
    "plot_threshold",
    "plot_training",
    "plot_training_pairs",
]

# Pairs of which no picture of its own is drawn.
FEW = 6
_TRANSLATED = ("pairs/manifest.csv", "translated/*/*/*/manifest.csv")
# What is matched: instances of methods of translation, StarDist beside them.
_MATCHED = "translation_scores/*/*/objects.csv"
# What methods of filtering made of tested images, and how it was measured.
_FILTERED = ("found/*/*/*/*/*/manifest.csv",)
_FILTER_SCORES = ("filter_scores/*/*/*/*/*/objects.csv",)
# Name: the plot, and what must exist below the folder of the experiment.
FIGURES: dict[str, tuple[Plot, tuple[str, ...]]] = {
    "gallery": (
        plot_gallery,
        ("prepared/manifest.csv", "normalisation.json", "synthetic/*/manifest.csv"),
    ),
    "overlays": (
        plot_overlays,
        ("scores/*/*/*/images.csv", "predictions/*/*/*/manifest.csv"),
    ),
    "average_precision": (plot_average_precision, ("scores/*/*/*/images.csv",)),
    "restoration": (
        plot_restoration,
        ("pairs/test/manifest.csv", "restoration/*/*/*/images.csv"),
    ),
    "frc_curves": (plot_frc_curves, ("restoration/*/*/*/rings.csv",)),
    "stains": (plot_stains, _TRANSLATED),
    "instances": (plot_instances, (_MATCHED, *_TRANSLATED)),
    "matching": (plot_matching, (_MATCHED,)),
    "stain_quality": (plot_stain_quality, ("translation_scores/*/*/pixels.csv",)),
    "features": (plot_features, ("profile_scores/*/*/correlations.csv",)),
    "steps": (plot_steps, ("study/steps/*/quality.csv",)),
    "reliability": (plot_reliability, ("translation_scores/*/*/reliability.csv",)),
    "spread": (plot_spread, ("translation_scores/*/*/reliability.csv", *_TRANSLATED)),
    "artefacts": (plot_artefacts, ("study/artefacts/*/*/artefacts.csv",)),
    "pairs": (plot_training_pairs, _FILTERED),
    "layers": (plot_layers, _FILTERED),
    "detections": (plot_detections, _FILTERED),
    "quality": (plot_quality, _FILTER_SCORES),
    "learning_curve": (plot_learning_curve, _FILTER_SCORES),
    "threshold": (plot_threshold, _FILTER_SCORES),
    "realism": (plot_realism, ("realism.json",)),
    "populations": (plot_populations, ("populations.json", "tables/populations.csv")),
    "memorisation": (plot_memorisation, ("memorisation.csv",)),
    # The figure above shows a few pairs already.
    "copies": (
        plot_copies,
        ("memorisation/manifest.csv", f"memorisation/images/pair-{FEW:02d}-sample.*"),
    ),
    "t_start": (plot_start, ("start.json", "tables/t_start.csv")),
    "fit": (plot_fit, ("fit_objects.csv",)),
    "pseudo": (
        plot_pseudo,
        ("pseudo/manifest.csv", "prepared/manifest.csv", "normalisation.json"),
    ),
    "checks": (plot_checks, ("checked/manifest.csv",)),
    "training": (plot_training, ("diffusion/metrics.jsonl",)),
    "costs": (plot_costs, ("benchmarks/*.tsv",)),
}


def available(root: Path) -> list[str]:
    """Return the names of the figures whose data is there, in the report's order."""
    return [
        name
        for name, (_, needs) in FIGURES.items()
        if all(any(Path(root).glob(pattern)) for pattern in needs)
    ]
