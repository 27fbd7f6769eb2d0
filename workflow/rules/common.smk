# Config, paths and input functions. The config is checked before any rule.
from phantomscope.config.arms import parse_arm
from phantomscope.config.filtering import ALL_FILTER_METHODS
from phantomscope.config.load import make_config, sections
from phantomscope.config.translation import (
    ALL_DETECTORS,
    ALL_METHODS,
    ALL_OBJECTS,
    LATENT,
    PAIRING,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.sharding import (
    freed_before,
    resolved,
    shards_of_plates,
    training_processes,
)

try:
    CONFIG = resolved(
        make_config(config, ", ".join(map(str, workflow.configfiles)) or "--config")
    )
except PhantomscopeError as error:
    # One clear message: a WorkflowError would point to this line, not to the config.
    raise SystemExit(str(error)) from None

RESULTS = f"results/{CONFIG.name}"
SHARDS = [f"{n:03d}" for n in range(CONFIG.simulate.shards)]
GPU = int("cpu" not in (CONFIG.train.device, CONFIG.synthesise.device))
# Processes that share a training, each with threads and a GPU, on one machine: without
# `nodes=1` SLURM might collect the GPUs from several.
SHARING = {
    name: training_processes(CONFIG, name) for name in ("train_diffusion", "distil")
}
# Training and synthesis stop cleanly before the time limit of a cluster's job; each
# resubmission is one more time slice. Elsewhere nothing ends them, so nothing is retried;
# nor inside a job, where another Snakemake runs.
SLICES = 20 if workflow.is_main_process and workflow.resource_settings.nodes else None


def grown(amount):
    """Up to three times as much at later attempts: memory or time may have failed it."""
    return lambda wildcards, attempt: amount * min(attempt, 3)


# Options of the drawing that a fit depends on; the number of images is not one, and it
# looks at still images.
DIVISION = ("shards", "job_minutes", "frames", "motion")
DRAWING = [
    f"simulate.{name}"
    for name in type(CONFIG.simulate).model_fields
    if name not in DIVISION
]
# Fitted nuclei of images do not depend on their size.
SIZED = CONFIG.dims == 3 or CONFIG.simulate.organism != "fitted"
FIT_OPTIONS = [
    name
    for name in DRAWING
    if name != "simulate.images" and (SIZED or name != "simulate.size")
]


# The shape of an organ that is learnt from annotation lies beside the parameters.
SHAPE = {"shape": f"{RESULTS}/shape_model.npz"} if CONFIG.simulate.learns_shape else {}


# A model that sees nothing beside the image does not depend on this section.
CONDITIONS = ["condition"] if CONFIG.condition.kind == "sketch" else []
# Arms of restoration, of which those of `restore.arms` are trained.
RESTORATION_ARMS = "(mathematical|diffusion|experimental)"
PLATES = CONFIG.translate.plates
OF_PLATES = PLATES.kind == "gallery"
RECORD = f"{RESULTS}/fetched/shard-{{shard}}.json"
# Full size is freed once it has been used, if the config says so.
FIELDS = directory(f"{RESULTS}/fields/shard-{{shard}}")
RAW = {"raw": f"{RESULTS}/raw/shard-{{shard}}"} if PLATES.keep == "pairs" else {}
FETCHED = {"record": RECORD, **RAW} if OF_PLATES else {}
# Freed images have to be fetched again for other pairs.
SURVEYED = PAIRING if PLATES.keep == "pairs" else ["translate.plates"]
# Presets of a paper with the same pairs make them once.
SCALED = f"{CONFIG.translate.pairs_from or RESULTS}/scaled/shard-{{shard}}"


wildcard_constraints:
    shard=r"\d\d\d+",
    gathered="checked|camera",
    tool="cellpose|stardist|otsu_watershed",
    arm=r"synthetic|annotated|sketch|(annotated|mixed)-[\d.]+",
    seed=r"\d+",
    method="|".join(ALL_FILTER_METHODS if CONFIG.filter.methods else ALL_METHODS),
    way="found|true",
    profiled=rf"real|({'|'.join(ALL_METHODS)})/seed\d+/(found|true)",
    detector="|".join(ALL_DETECTORS),
    objects="|".join(ALL_OBJECTS),
    pairs_of=rf"{RESTORATION_ARMS}|test",


def tool_environment(wildcards):
    """The classical baseline needs nothing beyond the library itself."""
    name = "phantomscope" if wildcards.tool == "otsu_watershed" else wildcards.tool
    return f"../../envs/{name}.yaml"


def segmenter_environment():
    """That of the tool which finds the objects of the pseudo-sketches."""
    folder = Path(CONFIG.condition.segmenter or "")
    name = next((n for n in ("cellpose", "stardist") if n in folder.parts), "")
    return f"../../envs/{name or 'phantomscope'}.yaml"


def shards_of(*names):
    """Folders of all shards."""
    return expand(f"{RESULTS}/{{name}}/shard-{{shard}}", name=names, shard=SHARDS)


def parts_to_gather(wildcards):
    """The sets that are joined into one manifest."""
    names = {"checked": "checks", "camera": "photographs"}
    return shards_of(names[wildcards.gathered])


def pixels_of_gathered(wildcards):
    """A gathered manifest points into the shards: they must be there."""
    pixels = {
        "synthetic": ["synthetic", "checks"],
        "sketch": ["photographs"],
        "annotated": [],
    }
    known = "arm" in wildcards.keys()
    used = parse_arm(wildcards.arm).sets if known else list(pixels)
    return [path for name in used for path in shards_of(*pixels[name])]


def gpus_of_tool(wildcards):
    """GPUs that a tool can use: the TensorFlow of StarDist is that for the CPU."""
    return (
        GPU if wildcards.get("tool", "generalist") in ("cellpose", "generalist") else 0
    )


def synthesising_model(wildcards):
    """The diffusion model, or its student where the config asks for one."""
    folder = "student" if CONFIG.distil.steps else "diffusion"
    return f"{RESULTS}/{folder}/model.pt"


def training_set(wildcards, number=0):
    """An image set that an arm is trained on; mixed arms have a second one."""
    sets = {"synthetic": "checked", "annotated": "prepared", "sketch": "camera"}
    used = parse_arm(wildcards.arm).sets
    return f"{RESULTS}/{sets[used[number]]}" if number < len(used) else []


def annotated_set(wildcards):
    """The annotated images of a mixed arm."""
    return training_set(wildcards, 1)


def segment_sections(wildcards):
    """The options that shape a training of this tool."""
    own = "classical" if wildcards.tool == "otsu_watershed" else wildcards.tool
    names = [own, "images", "megavoxels", "sampling", "anisotropy", "threads"]
    return sections(CONFIG, *(f"segment.{name}" for name in names))


def trained(pattern):
    """Paths for every tool, arm and seed that the config asks for."""
    found = expand(
        pattern, tool=CONFIG.segment.tools, arm=CONFIG.arms, seed=CONFIG.segment.seeds
    )
    if CONFIG.scored:
        found += expand(pattern, tool="otsu_watershed", arm="annotated", seed=0)
    return found


def all_scores(wildcards):
    """Scores of everything that can be measured: without labels or tools, nothing."""
    if not CONFIG.scored:
        return []
    found = trained(f"{RESULTS}/scores/{{tool}}/{{arm}}/seed{{seed}}")
    if CONFIG.segment.generalist:
        found.append(f"{RESULTS}/scores/generalist/none/seed0")
    return found


def predictions_without_scores(wildcards):
    """Without labels the models are trained and used, but not measured."""
    if CONFIG.has_labels:
        return []
    return trained(f"{RESULTS}/predictions/{{tool}}/{{arm}}/seed{{seed}}")


def segmentation_figures(wildcards):
    """Figures of segmentations need annotation to compare with."""
    names = ["overlays", "average_precision"] if CONFIG.scored else []
    return [f"{RESULTS}/figures/{name}.png" for name in names]


def wanted_besides(wildcards):
    """What else the config asks for: a paper's tables, restoration, a published set."""
    found = []
    if CONFIG.appearance.organism and CONFIG.has_labels:
        found += [f"{RESULTS}/tables/{name}.csv" for name in ("forward", "backward")]
    if CONFIG.restore.arms:
        found.append(f"{RESULTS}/tables/restoration.csv")
        found += [f"{RESULTS}/figures/{n}.png" for n in ("restoration", "frc_curves")]
    if CONFIG.publish.formats:
        found.append(f"{RESULTS}/published")
    return found


def sources_of_pairs(wildcards):
    """The super-resolution images of an arm; real ones are in the prepared set."""
    sources = {
        "mathematical": shards_of("sketches"),
        "diffusion": [f"{RESULTS}/checked"],
    }
    return sources.get(wildcards.pairs_of, [])


def pixels_of_pairs(wildcards):
    """A gathered manifest points into the shards: they must be there."""
    return shards_of("synthetic", "checks") if wildcards.pairs_of == "diffusion" else []


def restored_images(wildcards):
    """Restored images to measure; the widefield images are in the pairs themselves."""
    if wildcards.restorer.startswith("widefield/"):
        return []
    return f"{RESULTS}/restored/{wildcards.restorer}"


def restorations(pattern):
    """Paths for every arm and seed of restoration that the config asks for."""
    options = CONFIG.restore
    return expand(pattern, arm=options.arms, seed=options.seeds)


def restoration_scores(wildcards):
    """Scores of every restoration, and of the widefield images without any."""
    found = restorations(f"{RESULTS}/restoration/care/{{arm}}/seed{{seed}}")
    return [*found, f"{RESULTS}/restoration/widefield/none/seed0"]


def all_restored(wildcards):
    """Restored images of every arm and seed."""
    return restorations(f"{RESULTS}/restored/care/{{arm}}/seed{{seed}}")


def training_pairs(wildcards):
    """The pairs of every arm, and those of the test part: their ratios stand in the table."""
    return expand(f"{RESULTS}/pairs/{{name}}", name=[*CONFIG.restore.arms, "test"])
