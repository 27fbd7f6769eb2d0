# Semantic filtering: what its rules share, and their input functions.
from phantomscope.config.filtering import ALL_FILTER_METHODS, DETECTORS, FILTERS

FILTER = CONFIG.filter
# What the composed images depend on; `truth` and `pairs` must fit each other.
COMPOSING = [
    f"filter.{name}"
    for name in (
        "targets",
        "truth",
        "pairs",
        "folds",
        "seeds",
        "veto",
        "scale",
        "compose",
        "tests",
        "taught",
    )
]
# What training and finding depend on; how objects are measured is no part of it.
TRAINING = [*COMPOSING, "filter.crops", "filter.lag", "filter.epoch"]
FILTER_FIGURES = [
    "pairs",
    "layers",
    "detections",
    "learning_curve",
    "quality",
    "threshold",
]
# The median of a video is no tool: it is taken where filters are tested.
RIVALS = [m for m in ALL_FILTER_METHODS if m not in (*FILTERS, "median")]
RUN = "{target}/{method}/{images}/fold{fold}/seed{seed}"
# Objects are found in the tested images, and on the plate.
FOUND = f"{{found}}/{RUN}"
if FILTER.plate:
    PLATE = CONFIG.source.beside(FILTER.plate, "filter.plate")
    PLATE_CONFIG = CONFIG.model_copy(update={"source": PLATE})


def crops_of_filters(name):
    """Crops or backgrounds; pairs of video frames need none."""
    return f"{RESULTS}/{name}" if FILTER.pairs == "composed" else []


def tested_set(wildcards):
    """The images on which a filter is tested: real ones, or composed of other crops."""
    if wildcards.get("found") == "plate_found":
        return f"{RESULTS}/plate"
    if FILTER.truth != "layers":
        return f"{RESULTS}/prepared"
    return f"{RESULTS}/composed/{wildcards.target}/fold{wildcards.fold}/tests-all"


def part_of_set(wildcards):
    """Which images of the set are looked at: on a plate all."""
    return "all" if wildcards.found == "plate_found" else "test"


def taught_set(wildcards):
    """Composed images with labels of all objects, for the tools that learn from these."""
    if wildcards.method not in ("stardist", "cellpose"):
        return []
    folder = f"{RESULTS}/composed/{wildcards.target}/fold{wildcards.fold}"
    return f"{folder}/taught-{wildcards.images}"


def found_model(wildcards):
    """What finds the objects: a filter, a rival's folder, or nothing for the median."""
    if wildcards.method in FILTERS:
        return f"{RESULTS}/filters/{RUN}/model.pt"
    return [] if wildcards.method == "median" else f"{RESULTS}/finders/{RUN}"


def filter_runs(pattern, methods=None, sizes=slice(None)):
    """Paths of all methods, numbers of training images, folds and seeds."""
    found = []
    for method in FILTER.methods if methods is None else methods:
        found += expand(
            pattern,
            target=FILTER.targets,
            method=method,
            images=FILTER.sizes_of(method)[sizes],
            fold=FILTER.fold_names,
            seed=FILTER.seeds_of(method),
        )
    return found


def filter_scores(wildcards):
    """Scores of all runs, and counts on the plate where they are wanted."""
    counts = f"{RESULTS}/plate_scores/{RUN}/plate.csv"
    return [
        *filter_runs(f"{RESULTS}/filter_scores/{RUN}"),
        # Of all training images only: a plate is large.
        *filter_runs(counts, FILTER.counting, slice(-1, None)),
    ]


def finder_environment(wildcards):
    """That of the tool."""
    name = "detection" if wildcards.method in DETECTORS else wildcards.method
    return f"../../envs/{name}.yaml"


def gpus_of_finder(wildcards):
    """GPUs that a rival can use: detectors and Cellpose."""
    return GPU if wildcards.get("method") in (*DETECTORS, "cellpose") else 0


wildcard_constraints:
    target=r"\w[\w-]*",
    images=r"all|\d+",
    fold=r"\d+",
    found="found|plate_found",
    use="taught|tests",
