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


def method_sections(method, **others):
    """The options that shape a method of translation; other methods' do not."""
    chosen = sections(
        CONFIG, "network", "process", "train", "synthesise", "seed", *PAIRING
    )
    own = CONFIG.translate.overrides.get(method, {})
    chosen["translate"] |= {"overrides": {method: own} if own else {}, **others}
    return chosen


def translator_sections(wildcards):
    """Those of its training."""
    error = CONFIG.translate.perceptual_of(wildcards.method)
    own = {"perceptual": error.model_dump(mode="json")} if error else {}
    return method_sections(wildcards.method, **own)


def translation_sections(wildcards):
    """Those of its prediction."""
    options, method = CONFIG.translate, wildcards.method
    return method_sections(
        method,
        shards=options.shards,
        samples=options.samples_of(method),
        averaged=options.averaged_of(method),
    )


def study_options(*names):
    """The options of the studies that shape one of them."""
    return CONFIG.translate.study.model_dump(mode="json", include=set(names))


# Options that shape the images with planted artefacts.
PLANTING = [
    name
    for name in type(CONFIG.translate.study).model_fields
    if name not in ("steps", "methods", "samples")
]


def planting_sections():
    """The options that shape images with planted artefacts."""
    chosen = sections(CONFIG, "seed", *PAIRING)
    chosen["translate"]["study"] = study_options(*PLANTING)
    return chosen


def artefact_sections(wildcards):
    """The options that shape what a method makes of these images."""
    return method_sections(
        wildcards.method, blocks=CONFIG.translate.blocks, study=study_options("samples")
    )


def studies(wildcards):
    """What the studies measured; nothing where the config asks for none."""
    options = CONFIG.translate
    found = []
    if options.study.steps:
        found += expand(
            f"{RESULTS}/study/steps/seed{{seed}}/quality.csv", seed=options.seeds
        )
    if options.studied:
        found.append(f"{RESULTS}/study/candidates.csv")
    return found + expand(
        f"{RESULTS}/study/artefacts/{{method}}/seed{{seed}}",
        method=options.studied,
        seed=options.seeds,
    )


def codec_sections(wildcards):
    """The options that shape the codec of the latent space."""
    return sections(CONFIG, "train", "seed", *PAIRING, "translate.latent")


def codec_of_method(wildcards):
    """The codec, for the method that needs one."""
    return f"{RESULTS}/codec/codec.pt" if wildcards.method == LATENT else []


def translations(pattern):
    """Paths for every method and seed of translation that the config asks for."""
    options = CONFIG.translate
    return expand(pattern, method=options.methods, seed=options.seeds)


def scored_shards(wildcards):
    """What was measured of a method, in all its shards."""
    shards = [f"{n:03d}" for n in range(CONFIG.translate.shards)]
    folder = f"{RESULTS}/shard_scores/{wildcards.method}/seed{wildcards.seed}"
    return expand("{folder}/shard-{shard}", folder=folder, shard=shards)


def fetched_before(wildcards):
    """One shard is fetched at a time, and none before there is room for it."""
    number = int(wildcards.shard)
    found = [f"{RESULTS}/fetched/shard-{number - 1:03d}.json"] if number else []
    if PLATES.keep == "pairs":
        done = freed_before(CONFIG, number)
        found += [f"{RESULTS}/scaled/shard-{n:03d}" for n in done]
    return found


def counted_with(wildcards):
    """Intensities of all shards of the plates of a shard, if these share limits."""
    if CONFIG.translate.scope == "image":
        return []
    folder = f"{RESULTS}/intensities"
    shards = shards_of_plates(CONFIG, int(wildcards.shard))
    return [f"{folder}/shard-{number:03d}.npz" for number in shards]


def profiled_predictions(wildcards):
    """What a method predicted, in all its shards; of real stains there is nothing."""
    if wildcards.profiled == "real":
        return []
    folder = f"{RESULTS}/translated/{wildcards.profiled.rpartition('/')[0]}"
    shards = [f"{n:03d}" for n in range(CONFIG.translate.shards)]
    return expand("{folder}/shard-{shard}", folder=folder, shard=shards)


def profile_shards(profiled):
    """Features of the objects of one image set or of several, in all their shards."""
    shards = [f"{n:03d}" for n in range(CONFIG.translate.shards)]
    folder = f"{RESULTS}/profiles/{{profiled}}/shard-{{shard}}"
    return expand(folder, profiled=profiled, shard=shards)


def profiles_to_compare(wildcards):
    """Features of what a method predicted, one seed after the other."""
    method, way = wildcards.method, wildcards.way
    return profile_shards([f"{method}/seed{n}/{way}" for n in CONFIG.translate.seeds])


def compared_profiles():
    """Agreement of features, for every method and way that the config asks for."""
    options = CONFIG.translate
    folder = f"{RESULTS}/profile_scores/{{method}}/{{way}}"
    return expand(folder, method=options.methods, way=options.profiled)


def detections(pattern):
    """Paths for every detector, what it finds, and seed that the config asks for."""
    options = CONFIG.translate
    return expand(
        pattern,
        detector=options.detectors,
        objects=options.detected,
        seed=options.seeds,
    )
