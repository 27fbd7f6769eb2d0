rule measure_forward:
    """Compare noised training images with noised sketches of their annotation."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
    output:
        forward=f"{RESULTS}/tables/forward.csv",
    log:
        f"{RESULTS}/logs/measure_forward.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_forward.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(6000),
        runtime=grown(240),
    params:
        config=sections(
            CONFIG,
            "appearance",
            "process",
            "synthesise.sketch_blur",
            "evaluate.resamples",
            "evaluate.confidence",
            "seed",
        ),
    message:
        "Noising annotated images and their sketches"
    script:
        "../../scripts/measure_forward.py"


rule measure_backward:
    """Bring noised test images and noised sketches of their annotation back."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        model=rules.train_diffusion.output.model,
    output:
        backward=f"{RESULTS}/tables/backward.csv",
        backward_images=directory(f"{RESULTS}/backward"),
    log:
        f"{RESULTS}/logs/measure_backward.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_backward.tsv"
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=720,
    params:
        config=sections(CONFIG, "appearance", "synthesise", "seed"),
    message:
        "Bringing annotated images and their sketches back"
    script:
        "../../scripts/measure_backward.py"


rule publish:
    """Export the synthetic set with its labels and a datasheet, ready to upload."""
    input:
        pixels_of_gathered,
        prepared=rules.prepare.output.prepared,
        checked=f"{RESULTS}/checked",
        sketch=rules.fit_sketch.output.sketch,
        memorisation=rules.measure_realism.output.memorisation,
    output:
        published=directory(f"{RESULTS}/published"),
    log:
        f"{RESULTS}/logs/publish.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=CONFIG.model_dump(mode="json"),
    message:
        "Exporting the synthetic set, ready to upload"
    script:
        "../../scripts/publish.py"
