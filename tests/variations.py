"""Options of an experiment, and the jobs that Snakemake then plans."""

SHARDED = ("simulate", "photograph", "synthesise", "check")
UNLABELLED = {"kind": "folder", "path": "my images"}
LABELLED = {**UNLABELLED, "labels": "my labels"}
NOT_SEGMENTED = dict.fromkeys(
    ("train_segmenter", "predict", "predict_generalist", "evaluate",
     "draw_segmentations"), 0,
)  # fmt: skip
# Of one arm and one seed; the widefield images are measured as well.
RESTORED = {
    "make_pairs": 2, "train_restorer": 1, "restore": 1, "evaluate_restoration": 2,
    "tabulate_restoration": 1, "draw_restoration": 1,
}  # fmt: skip
# Options, and how many jobs of which rule then differ from the demo.
VARIATIONS = {
    "folder_without_labels": (
        {"source": UNLABELLED},
        {"train_segmenter": 4, "predict": 4, "predict_generalist": 0, "evaluate": 0,
         "draw_segmentations": 0},
    ),
    "labels_three_seeds_one_tool": (
        {"source": LABELLED, "segment": {"seeds": [0, 1, 2], "tools": ["stardist"]}},
        {"train_segmenter": 10, "predict": 10, "evaluate": 11},
    ),
    "public_data_set": (
        {"source": {"kind": "dataset", "dataset": "bbbc038"}}, {"download": 1},
    ),
    "five_shards": ({"simulate": {"shards": 5}}, dict.fromkeys(SHARDED, 5)),
    "no_generalist": (
        {"segment": {"generalist": False}}, {"predict_generalist": 0, "evaluate": 7},
    ),
    "sees_sketches": ({"condition": {"kind": "sketch"}}, {"pseudo_sketches": 1}),
    "student_of_two_steps": ({"distil": {"steps": 2}}, {"distil": 1}),
    "restoration_without_segmentation": (
        {"source": UNLABELLED, "segment": {"tools": []},
         "restore": {"arms": ["mathematical", "diffusion"], "seeds": [0, 1]}},
        {**NOT_SEGMENTED, **RESTORED, "make_pairs": 3, "train_restorer": 4,
         "restore": 4, "evaluate_restoration": 5},
    ),
    "restoration_beside_segmentation": (
        {"restore": {"arms": ["experimental"]}}, RESTORED,
    ),
    "tools_empty_with_labels": (
        {"segment": {"tools": []}, "restore": {"arms": ["experimental"]}},
        {**NOT_SEGMENTED, **RESTORED},
    ),
    "synthetic_arm_only": (
        {"segment": {"arms": ["synthetic"]}},
        {"train_segmenter": 3, "predict": 3, "evaluate": 4},
    ),
}  # fmt: skip

# Experiments of other kinds, which have rules of their own.
TRANSLATING = {
    "translate": {
        "methods": ["cellresdm", "cellresdm_latent", "unet"],
        "seeds": [0, 1], "shards": 3,
        "detectors": ["brightfield", "fluorescence"],
        "overrides": {"cellresdm_latent": {"synthesise": {"overlap": 32}}},
        "plates": {
            "kind": "gallery", "sites": [1],
            "plates": ["BR00116991__2020-11-05T19_51_35-Measurement1"],
        },
    },
}  # fmt: skip
FILTERING = {
    "network": {"preset": "noise2noise"},
    "process": {"kind": "one_step", "timesteps": 1},
    "synthesise": {"overlap": 32},
    "filter": {
        "methods": ["filter", "layers", "stardist"], "targets": ["small", "large"],
        "folds": 2, "images": [5, 10], "seeds": [0, 1],
        "crops": {"size_limit": 100},
    },
}  # fmt: skip
