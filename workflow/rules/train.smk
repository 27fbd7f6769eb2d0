rule pseudo_sketches:
    """Draw the unannotated training images as sketches, from their segmentation."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        segmenter=CONFIG.condition.segmenter or [],
    output:
        pseudo=directory(f"{RESULTS}/pseudo"),
    log:
        f"{RESULTS}/logs/pseudo_sketches.log",
    benchmark:
        f"{RESULTS}/benchmarks/pseudo_sketches.tsv"
    conda:
        segmenter_environment()
    threads: CONFIG.segment.threads
    resources:
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, "condition", "segment.threads"),
    message:
        "Drawing the training images as sketches"
    script:
        "../../scripts/pseudo_sketches.py"


rule train_diffusion:
    """Train the diffusion model on the unannotated training images."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        pseudo=rules.pseudo_sketches.output.pseudo if CONDITIONS else [],
    output:
        model=f"{RESULTS}/diffusion/model.pt",
        metrics=f"{RESULTS}/diffusion/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_diffusion.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_diffusion.tsv"
    priority: 10
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.train.threads * SHARING["train_diffusion"]
    resources:
        gpu=GPU * SHARING["train_diffusion"],
        mem_mb=grown(6000 * SHARING["train_diffusion"]),
        nodes=1,
        runtime=1440,
    params:
        config=sections(CONFIG, "network", "process", "train", "seed", *CONDITIONS),
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.model, with_suffix=".state"),
    message:
        "Training the diffusion model on unannotated images"
    script:
        "../../scripts/train_diffusion.py"


rule choose_start:
    """Choose t_start: noise enough for realism, little enough for the labels."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        model=rules.train_diffusion.output.model,
    output:
        start=f"{RESULTS}/start.json",
        table=f"{RESULTS}/tables/t_start.csv",
        start_images=directory(f"{RESULTS}/start"),
    log:
        f"{RESULTS}/logs/choose_start.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_start.tsv"
    priority: 10
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, "start", *DRAWING, "process", "synthesise", "seed"),
    message:
        "Choosing t_start from the data"
    script:
        "../../scripts/choose_start.py"


rule distil:
    """Distil the diffusion model into a student that takes few steps from t_start."""
    input:
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        model=rules.train_diffusion.output.model,
        start=rules.choose_start.output.start,
    output:
        student=f"{RESULTS}/student/model.pt",
        student_metrics=f"{RESULTS}/student/metrics.jsonl",
    log:
        f"{RESULTS}/logs/distil.log",
    benchmark:
        f"{RESULTS}/benchmarks/distil.tsv"
    priority: 10
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.train.threads * SHARING["distil"]
    resources:
        gpu=GPU * SHARING["distil"],
        mem_mb=grown(6000 * SHARING["distil"]),
        nodes=1,
        runtime=1440,
    params:
        config=sections(
            CONFIG, "distil", "train", "synthesise.clip", "seed", *FIT_OPTIONS
        ),
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.student, with_suffix=".state"),
    message:
        "Distilling the diffusion model into a student of few steps"
    script:
        "../../scripts/distil.py"
