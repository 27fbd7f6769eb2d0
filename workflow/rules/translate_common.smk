# Translation: what its rules share, and their input functions.


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
