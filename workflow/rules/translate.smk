rule fetch_plates:
    """Fetch the files of the chosen wells and sites of plates, and only these."""
    output:
        record=f"{RESULTS}/fetched.json",
    log:
        f"{RESULTS}/logs/fetch_plates.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch_plates.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(1440),
    params:
        config=sections(CONFIG, "translate.plates", "seed"),
    message:
        "Fetching plates"
    script:
        "../../scripts/fetch_plates.py"


rule acquire_plates:
    """Make an image set of plates, or of a folder of images with several channels."""
    input:
        record=FETCHED,
    output:
        fields=directory(f"{RESULTS}/fields"),
    log:
        f"{RESULTS}/logs/acquire_plates.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire_plates.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, "translate.plates", "seed"),
    message:
        "Reading plates"
    script:
        "../../scripts/acquire_plates.py"


rule pair_fields:
    """Scale images of several channels, and draw the boundaries of their objects."""
    input:
        fields=rules.acquire_plates.output.fields,
    output:
        pairs=directory(f"{RESULTS}/pairs"),
    log:
        f"{RESULTS}/logs/pair_fields.log",
    benchmark:
        f"{RESULTS}/benchmarks/pair_fields.tsv"
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, *PAIRING),
    message:
        "Pairing brightfield and stains"
    script:
        "../../scripts/pair_fields.py"


rule train_codec:
    """Train the codec of the latent space on the images of the training part."""
    input:
        pairs=rules.pair_fields.output.pairs,
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
        config=translation_sections,
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


rule evaluate_translation:
    """Compare predicted stains and instances of the test part with the real ones."""
    input:
        pairs=rules.pair_fields.output.pairs,
        translated=translated_shards,
    output:
        scores=directory(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/evaluate_translation.{{method}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_translation.{{method}}.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=sections(CONFIG, "translate"),
    message:
        "Measuring {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/evaluate_translation.py"


rule tabulate_translation:
    """Put quality of stains and instances of all methods into one table."""
    input:
        translations(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
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
