# Semantic filtering: crops, composed images, filters and rivals, objects, tables.
rule cut_crops:
    """Cut objects out of the images, and note what is background."""
    input:
        prepared=rules.prepare.output.prepared,
    output:
        crops=directory(f"{RESULTS}/crops"),
        backgrounds=directory(f"{RESULTS}/backgrounds"),
        sheet=report(
            f"{RESULTS}/figures/contact_sheet.png",
            caption="../report/filtering.rst",
            category="Layers",
            labels={"figure": "crops"},
        ),
    log:
        f"{RESULTS}/logs/cut_crops.log",
    benchmark:
        f"{RESULTS}/benchmarks/cut_crops.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=sections(CONFIG, "filter.crops", "filter.veto", "filter.targets", "seed"),
    message:
        "Cutting crops of objects"
    script:
        "../../scripts/cut_crops.py"


rule compose_set:
    """Compose images whose layers are known, to teach rivals or to test all methods."""
    input:
        crops=rules.cut_crops.output.crops,
        backgrounds=rules.cut_crops.output.backgrounds,
    output:
        composed=directory(
            f"{RESULTS}/composed/{{target}}/fold{{fold}}/{{use}}-{{images}}"
        ),
    log:
        f"{RESULTS}/logs/compose_set.{{target}}.{{fold}}.{{use}}.{{images}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compose_set.{{target}}.{{fold}}.{{use}}.{{images}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, *COMPOSING, "seed"),
    message:
        "Composing images ({wildcards.use}) of {wildcards.target} out of {wildcards.images} images, fold {wildcards.fold}"
    script:
        "../../scripts/compose_set.py"


rule train_filter:
    """Train a network to keep a layer, or to tell all layers apart."""
    input:
        prepared=rules.prepare.output.prepared,
        crops=crops_of_filters("crops"),
        backgrounds=crops_of_filters("backgrounds"),
    output:
        model=f"{RESULTS}/filters/{RUN}/model.pt",
        metrics=f"{RESULTS}/filters/{RUN}/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_filter.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_filter.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.tsv"
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
        config=sections(
            CONFIG,
            *TRAINING,
            "filter.consistency",
            "network",
            "process",
            "train",
            "seed",
        ),
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.model, with_suffix=".state"),
    message:
        "Training {wildcards.method} for {wildcards.target} ({wildcards.images} images), fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../../scripts/train_filter.py"


rule train_finder:
    """Train a rival: on composed images with labels, or on images with boxes."""
    input:
        prepared=rules.prepare.output.prepared,
        composed=taught_set,
    output:
        folder=directory(f"{RESULTS}/finders/{RUN}"),
    log:
        f"{RESULTS}/logs/train_finder.{{method}}.{{target}}.{{images}}.{{fold}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_finder.{{method}}.{{target}}.{{images}}.{{fold}}.{{seed}}.tsv"
    # Detectors go on in another time slice; the others begin anew, with more time.
    retries: SLICES
    conda:
        finder_environment
    threads: CONFIG.segment.threads
    resources:
        gpu=gpus_of_finder,
        mem_mb=grown(8000),
        runtime=grown(1440),
    params:
        config=sections(CONFIG, *TRAINING, "filter.detectors", "segment", "seed"),
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.folder, with_suffix=".state"),
    message:
        "Training {wildcards.method} to find {wildcards.target} ({wildcards.images} images), fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../../scripts/train_finder.py"


rule filter_images:
    """Filter the tested images, and find objects in the layer that is kept."""
    input:
        tested=tested_set,
        model=found_model,
    output:
        found=directory(f"{RESULTS}/{FOUND}"),
    log:
        f"{RESULTS}/logs/filter_images.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.{{found}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/filter_images.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.{{found}}.tsv"
    wildcard_constraints:
        method="|".join([*FILTERS, "median"]),
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=720,
    params:
        part=part_of_set,
        config=sections(
            CONFIG,
            *TRAINING,
            "filter.objects",
            "network",
            "process",
            "synthesise",
            "seed",
        ),
    message:
        "Filtering by {wildcards.method} for {wildcards.target} ({wildcards.images} images), fold {wildcards.fold}, seed {wildcards.seed}, {wildcards.found}"
    script:
        "../../scripts/filter_images.py"


rule find_objects:
    """Find objects in the tested images by a rival."""
    input:
        tested=tested_set,
        folder=found_model,
    output:
        found=directory(f"{RESULTS}/{FOUND}"),
    log:
        f"{RESULTS}/logs/find_objects.{{method}}.{{target}}.{{images}}.{{fold}}.{{seed}}.{{found}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/find_objects.{{method}}.{{target}}.{{images}}.{{fold}}.{{seed}}.{{found}}.tsv"
    wildcard_constraints:
        method="|".join(RIVALS),
    retries: SLICES
    conda:
        finder_environment
    threads: CONFIG.segment.threads
    resources:
        gpu=gpus_of_finder,
        mem_mb=grown(6000),
        runtime=grown(720),
    params:
        part=part_of_set,
        config=sections(
            CONFIG, *TRAINING, "filter.objects", "filter.detectors", "segment", "seed"
        ),
    message:
        "Finding {wildcards.target} by {wildcards.method} ({wildcards.images} images), fold {wildcards.fold}, seed {wildcards.seed}, {wildcards.found}"
    script:
        "../../scripts/find_objects.py"


rule evaluate_filter:
    """Compare layers and objects of the tested images with what is known of them."""
    input:
        tested=tested_set,
        found=f"{RESULTS}/found/{RUN}",
    output:
        scores=directory(f"{RESULTS}/filter_scores/{RUN}"),
    log:
        f"{RESULTS}/logs/evaluate_filter.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_filter.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=sections(CONFIG, "filter", "seed"),
    message:
        "Measuring {wildcards.method} for {wildcards.target} ({wildcards.images} images), fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../../scripts/evaluate_filter.py"


rule tabulate_filter:
    """Put layers and objects of all methods into one table."""
    input:
        filter_scores,
        config=rules.write_config.output.resolved,
    output:
        csv=report(
            f"{RESULTS}/tables/filtering.csv",
            caption="../report/filtering.rst",
            category="Layers",
            labels={"table": "all results"},
        ),
        md=f"{RESULTS}/tables/filtering.md",
    log:
        f"{RESULTS}/logs/tabulate_filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_filter.tsv"
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
        "Writing the table of layers and objects"
    script:
        "../../scripts/tabulate_filter.py"


rule draw_filter:
    """Draw layers and objects of all methods, and how well they did."""
    input:
        filter_scores,
        filter_runs(f"{RESULTS}/found/{RUN}"),
        crops=crops_of_filters("crops"),
        backgrounds=crops_of_filters("backgrounds"),
        prepared=rules.prepare.output.prepared,
        config=rules.write_config.output.resolved,
    output:
        figures=[
            report(
                f"{RESULTS}/figures/{name}.png",
                caption="../report/filtering.rst",
                category="Layers",
                labels={"figure": name.replace("_", " ")},
            )
            for name in FILTER_FIGURES
        ],
    log:
        f"{RESULTS}/logs/draw_filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_filter.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    message:
        "Drawing layers and objects"
    script:
        "../../scripts/draw_filter.py"


rule report_filter:
    """Write the report of an experiment of semantic filtering."""
    input:
        rules.tabulate_filter.output.csv,
        rules.draw_filter.output,
        rules.cut_crops.output.sheet if FILTER.pairs == "composed" else [],
        config=rules.write_config.output.resolved,
    output:
        html=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report_filter.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_filter.tsv"
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
        "../../scripts/report_filter.py"
