rule study_steps:
    """Measure residual diffusion with fewer steps, and how long each number takes."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        model=f"{RESULTS}/translators/cellresdm/seed{{seed}}/model.pt",
    output:
        quality=f"{RESULTS}/study/steps/seed{{seed}}/quality.csv",
        seconds=f"{RESULTS}/study/steps/seed{{seed}}/seconds.csv",
    log:
        f"{RESULTS}/logs/study_steps.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/study_steps.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=grown(720),
    params:
        config=method_sections(
            "cellresdm",
            blocks=CONFIG.translate.blocks,
            samples=CONFIG.translate.samples_of("cellresdm"),
            averaged=CONFIG.translate.averaged_of("cellresdm"),
            study=study_options("steps", "images"),
        ),
    message:
        "Predicting with fewer steps, seed {wildcards.seed}"
    script:
        "../../scripts/study_steps.py"


rule plant_artefacts:
    """Plant dust and debris in brightfield images of the test part."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
    output:
        planted_images=directory(f"{RESULTS}/study/planted"),
        places=f"{RESULTS}/study/places.csv",
        candidates=f"{RESULTS}/study/candidates.csv",
    log:
        f"{RESULTS}/logs/plant_artefacts.log",
    benchmark:
        f"{RESULTS}/benchmarks/plant_artefacts.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(120),
    params:
        config=planting_sections(),
    message:
        "Planting artefacts"
    script:
        "../../scripts/plant_artefacts.py"


rule study_artefacts:
    """Translate images with and without artefacts, and compare the two."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        model=rules.train_translator.output.model,
        codec=codec_of_method,
        planted_images=rules.plant_artefacts.output.planted_images,
        places=rules.plant_artefacts.output.places,
    output:
        study=directory(f"{RESULTS}/study/artefacts/{{method}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/study_artefacts.{{method}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/study_artefacts.{{method}}.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=grown(720),
    params:
        config=artefact_sections,
    message:
        "Translating artefacts by {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/study_artefacts.py"


rule tabulate_studies:
    """Put steps, uncertainty and artefacts into one table."""
    input:
        translations(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
        studies,
        config=rules.write_config.output.resolved,
    output:
        csv=report(
            f"{RESULTS}/tables/studies.csv",
            caption="../report/studies.rst",
            category="Translation",
            labels={"table": "studies"},
        ),
        md=f"{RESULTS}/tables/studies.md",
    log:
        f"{RESULTS}/logs/tabulate_studies.log",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_studies.tsv"
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
        "Writing the table of studies"
    script:
        "../../scripts/tabulate_studies.py"


rule draw_studies:
    """Draw quality by steps, uncertainty, and what became of artefacts."""
    input:
        translations(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
        studies,
        config=rules.write_config.output.resolved,
    output:
        steps=report(
            f"{RESULTS}/figures/steps.png",
            caption="../report/studies.rst",
            category="Translation",
            labels={"figure": "quality by steps"},
        ),
        reliability=report(
            f"{RESULTS}/figures/reliability.png",
            caption="../report/studies.rst",
            category="Translation",
            labels={"figure": "reliability of the uncertainty"},
        ),
        spread=report(
            f"{RESULTS}/figures/spread.png",
            caption="../report/studies.rst",
            category="Translation",
            labels={"figure": "errors and uncertainty"},
        ),
        artefacts=report(
            f"{RESULTS}/figures/artefacts.png",
            caption="../report/studies.rst",
            category="Translation",
            labels={"figure": "planted artefacts"},
        ),
    log:
        f"{RESULTS}/logs/draw_studies.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_studies.tsv"
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
        "Drawing the studies"
    script:
        "../../scripts/draw_studies.py"
