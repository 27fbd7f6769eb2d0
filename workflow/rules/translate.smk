rule survey_plates:
    """Read the tables of plates, and list their files; no image is fetched."""
    output:
        survey=f"{RESULTS}/plates.json",
    log:
        f"{RESULTS}/logs/survey_plates.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey_plates.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(240),
    params:
        # Shards wait for each other by `ancient`, which hides what has changed of them:
        # what concerns all has to begin here.
        config=sections(CONFIG, "seed", *SURVEYED),
        shards=PLATES.shards,
    message:
        "Looking at what is on the plates"
    script:
        "../../scripts/survey_plates.py"


rule fetch_plates:
    """Fetch the files of a shard of the sites of plates, and only these."""
    input:
        survey=rules.survey_plates.output.survey,
        after=ancient(fetched_before),
    output:
        **{name: temp(directory(path)) for name, path in RAW.items()},
        record=RECORD,
    log:
        f"{RESULTS}/logs/fetch_plates.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch_plates.{{shard}}.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(1440),
    params:
        config=sections(CONFIG, "translate.plates", "seed"),
        shards=PLATES.shards,
    message:
        "Fetching plates, shard {wildcards.shard}"
    script:
        "../../scripts/fetch_plates.py"


rule acquire_plates:
    """Make an image set of plates, or of a folder of images with several channels."""
    input:
        **FETCHED,
    output:
        fields=FIELDS if PLATES.keep == "all" else temp(FIELDS),
    log:
        f"{RESULTS}/logs/acquire_plates.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire_plates.{{shard}}.tsv"
    priority: 10
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, "translate.plates", "seed"),
    message:
        "Reading plates, shard {wildcards.shard}"
    script:
        "../../scripts/acquire_plates.py"


rule measure_intensities:
    """Count the intensities of each channel, over the images of each plate."""
    input:
        fields=rules.acquire_plates.output.fields,
    output:
        intensities=f"{RESULTS}/intensities/shard-{{shard}}.npz",
    log:
        f"{RESULTS}/logs/measure_intensities.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_intensities.{{shard}}.tsv"
    priority: 20
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(240),
    params:
        config=sections(CONFIG, "translate.plates"),
    message:
        "Counting intensities, shard {wildcards.shard}"
    script:
        "../../scripts/measure_intensities.py"


rule scale_fields:
    """Scale images of several channels, and draw the boundaries of their objects."""
    input:
        fields=rules.acquire_plates.output.fields,
        intensities=counted_with,
    output:
        scaled=directory(f"{RESULTS}/scaled/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/scale_fields.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/scale_fields.{{shard}}.tsv"
    priority: 20
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, "seed", *PAIRING),
    message:
        "Scaling brightfield and stains, shard {wildcards.shard}"
    script:
        "../../scripts/scale_fields.py"


rule pair_fields:
    """Join the shards of pairs into one set, and make sure that its sides are apart."""
    input:
        scaled=expand(SCALED, shard=PLATES.shard_names),
    output:
        pairs=directory(f"{RESULTS}/pairs"),
    log:
        f"{RESULTS}/logs/pair_fields.log",
    benchmark:
        f"{RESULTS}/benchmarks/pair_fields.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "seed", *PAIRING),
    message:
        "Joining the pairs of brightfield and stains"
    script:
        "../../scripts/pair_fields.py"


rule train_codec:
    """Train the codec of the latent space on the images of the training part."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
    output:
        codec=f"{RESULTS}/codec/codec.pt",
        codec_metrics=f"{RESULTS}/codec/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_codec.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_codec.tsv"
    priority: 10
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.train.threads * SHARING["train_diffusion"]
    resources:
        gpu=GPU * SHARING["train_diffusion"],
        mem_mb=grown(8000 * SHARING["train_diffusion"]),
        nodes=1,
        runtime=1440,
    params:
        config=codec_sections,
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.codec, with_suffix=".state"),
    message:
        "Training the codec of the latent space"
    script:
        "../../scripts/train_codec.py"


rule train_translator:
    """Train one method of translation on the pairs of the training part."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        codec=codec_of_method,
    output:
        model=f"{RESULTS}/translators/{{method}}/seed{{seed}}/model.pt",
        metrics=f"{RESULTS}/translators/{{method}}/seed{{seed}}/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_translator.{{method}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_translator.{{method}}.{{seed}}.tsv"
    priority: 10
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.train.threads * SHARING["train_diffusion"]
    resources:
        gpu=GPU * SHARING["train_diffusion"],
        mem_mb=grown(8000 * SHARING["train_diffusion"]),
        nodes=1,
        runtime=1440,
    params:
        config=translator_sections,
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.model, with_suffix=".state"),
    message:
        "Training {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/train_translator.py"


rule translate:
    """Predict stains and boundaries of a shard of the test part."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        model=rules.train_translator.output.model,
        codec=codec_of_method,
    output:
        translated=directory(
            f"{RESULTS}/translated/{{method}}/seed{{seed}}/shard-{{shard}}"
        ),
        seconds=f"{RESULTS}/translated/{{method}}/seed{{seed}}/shard-{{shard}}.seconds.csv",
    log:
        f"{RESULTS}/logs/translate.{{method}}.{{seed}}.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/translate.{{method}}.{{seed}}.{{shard}}.tsv"
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=720,
    params:
        config=translation_sections,
    message:
        "Translating by {wildcards.method}, seed {wildcards.seed}, shard {wildcards.shard}"
    script:
        "../../scripts/translate.py"


rule tabulate_translation:
    """Put quality of stains and instances of all methods into one table."""
    input:
        translations(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
        compared_profiles(),
        detections(f"{RESULTS}/detection_scores/{{detector}}/{{objects}}/seed{{seed}}"),
        config=rules.write_config.output.resolved,
    output:
        csv=report(
            f"{RESULTS}/tables/translation.csv",
            caption="../report/translation.rst",
            category="Translation",
            labels={"table": "all results"},
        ),
        md=f"{RESULTS}/tables/translation.md",
    log:
        f"{RESULTS}/logs/tabulate_translation.log",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_translation.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    message:
        "Writing the table of translation"
    script:
        "../../scripts/tabulate_translation.py"


rule draw_translation:
    """Draw stains and instances of all methods beside the real ones."""
    input:
        translations(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
        compared_profiles(),
        detections(f"{RESULTS}/detection_scores/{{detector}}/{{objects}}/seed{{seed}}"),
        config=rules.write_config.output.resolved,
    output:
        stains=report(
            f"{RESULTS}/figures/stains.png",
            caption="../report/translation.rst",
            category="Translation",
            labels={"figure": "stains"},
        ),
        stain_quality=report(
            f"{RESULTS}/figures/stain_quality.png",
            caption="../report/translation.rst",
            category="Translation",
            labels={"figure": "quality of stains"},
        ),
        instances=report(
            f"{RESULTS}/figures/instances.png",
            caption="../report/translation.rst",
            category="Translation",
            labels={"figure": "instances"},
        ),
        features=report(
            f"{RESULTS}/figures/features.png",
            caption="../report/translation.rst",
            category="Translation",
            labels={"figure": "features of objects"},
        ),
        matching=report(
            f"{RESULTS}/figures/matching.png",
            caption="../report/translation.rst",
            category="Translation",
            labels={"figure": "matching of instances"},
        ),
    log:
        f"{RESULTS}/logs/draw_translation.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_translation.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
        figures=lambda wildcards, output: list(output),
    message:
        "Drawing stains and instances"
    script:
        "../../scripts/draw_translation.py"


rule report_translation:
    """Write the report of an experiment of translation."""
    input:
        rules.tabulate_translation.output.csv,
        rules.draw_translation.output,
        f"{RESULTS}/tables/studies.csv",
        f"{RESULTS}/figures/artefacts.png",
        config=rules.write_config.output.resolved,
    output:
        html=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report_translation.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_translation.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    message:
        "Writing the report"
    script:
        "../../scripts/report_translation.py"
