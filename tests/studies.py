"""A config of studies of translation, shared by their tests."""

METHODS = ["cellresdm", "unet"]
OPTIONS = {
    "experiment": "study", "evaluate": {"resamples": 40},
    "network": {"preset": "resshift_small"}, "train": {"patch": 64},
    "synthesise": {"tile": 256, "overlap": 64},
    "translate": {
        "methods": METHODS, "boundaries": [],
        "plates": {"kind": "fields", "stains": ["Mito", "DNA"],
                   "inputs": ["Brightfield"],
                   "fields": {"path": "x", "images": "{id}.tif",
                              "channels": ["Brightfield", "Mito", "DNA"]}},
        "study": {"steps": [1, 4], "artefacts": ["dust"], "methods": METHODS},
    },
}  # fmt: skip
