"""What tables, figures and reports read below the folder of an experiment."""

from __future__ import annotations

FIGURES_READ: dict[str, tuple[str, ...]] = {
    "gallery": ("normalisation.json", "prepared", "sketches/*", "synthetic/*"),
    "overlays": (
        "normalisation.json", "prepared", "predictions/*/*/*", "scores/*/*/*",
    ),
    "average_precision": ("scores/*/*/*",),
    "realism": ("realism.json",),
    "populations": ("populations.json", "tables/populations.csv"),
    "memorisation": ("memorisation.csv", "memorisation"),
    "copies": ("memorisation.csv", "memorisation"),
    "t_start": ("normalisation.json", "start.json", "start", "tables/t_start.csv"),
    "fit": ("fit_objects.csv",),
    "pseudo": ("normalisation.json", "prepared", "pseudo"),
    "checks": ("normalisation.json", "checked"),
    "training": ("diffusion/metrics.jsonl",),
    "stains": ("pairs", "translated/*/*/*"),
    "instances": (
        "pairs", "translated/*/*/*", "translation_scores/*/*", "detected/*/*/*",
    ),
    "matching": ("translation_scores/*/*", "detection_scores/*/*/*"),
    "stain_quality": ("translation_scores/*/*",),
    "features": ("profile_scores/*/*",),
    "steps": ("study/steps/*",),
    "reliability": ("translation_scores/*/*",),
    "spread": ("pairs", "translated/*/*/*", "translation_scores/*/*"),
    "artefacts": ("study/artefacts/*/*",),
    "restoration": (
        "pairs/test", "restored/*/*/*", "restoration/*/*/*", "tables/restoration.csv",
    ),
    "frc_curves": ("restoration/*/*/*",),
    "pairs": ("prepared", "crops", "backgrounds", "found/*/*/*/*/*"),
    "layers": ("prepared", "composed/*/*/*", "found/*/*/*/*/*"),
    "detections": ("prepared", "composed/*/*/*", "found/*/*/*/*/*"),
    "quality": ("filter_scores/*/*/*/*/*",),
    "learning_curve": ("filter_scores/*/*/*/*/*",),
    "threshold": ("filter_scores/*/*/*/*/*",),
    "costs": (),  # reads benchmarks only, which are measurements of the run itself
}  # fmt: skip
# What a stage reads below the `root` of an experiment; figures come on top.
ROOT_READ: dict[str, tuple[str, ...]] = {
    "tabulate": ("prepared", "scores/*/*/*"),
    "tabulate_restoration": ("prepared", "pairs/*", "restoration/*/*/*"),
    "tabulate_translation": (
        "translation_scores/*/*",
        "profile_scores/*/*",
        "detection_scores/*/*/*",
    ),
    "tabulate_studies": (
        "study/artefacts/*/*",
        "study/candidates.csv",
        "study/places.csv",
        "study/steps/*",
        "translation_scores/*/*",
    ),
    "tabulate_filter": (
        "prepared",
        "filter_scores/*/*/*/*/*",
        "plate_scores/*/*/*/*/*",
    ),
    "draw_figures": (),
    "report": (
        "prepared",
        "fit.json",
        "figures/*.png",
        "models/*/*/*",
        "scores/*/*/*",
        "published",
        "tables/restoration.csv",
        "restorers/*/*/*",
        "tables/studies.csv",
        "translation_scores/*/*",
        "profile_scores/*/*",
        "detection_scores/*/*/*",
        "filter_scores/*/*/*/*/*",
        "plate_scores/*/*/*/*/*",
    ),
}
