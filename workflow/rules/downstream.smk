rule train_segmenter:
    """Train a segmentation tool on one arm; `otsu_watershed` is tuned."""
    input:
        pixels_of_gathered,
        training=training_set,
        annotated=annotated_set,
    output:
        folder=directory(f"{RESULTS}/models/{{tool}}/{{arm}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/train_segmenter.{{tool}}.{{arm}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_segmenter.{{tool}}.{{arm}}.{{seed}}.tsv"
    retries: SLICES
    conda:
        tool_environment
    threads: CONFIG.segment.threads
    resources:
        gpu=gpus_of_tool,
        mem_mb=grown(6000),
        runtime=grown(720),
    params:
        config=segment_sections,
        # Only params names the state: Snakemake deletes outputs of a crashed job.
        state=subpath(output.folder, with_suffix=".state"),
    message:
        "Training {wildcards.tool} on the {wildcards.arm} arm, seed {wildcards.seed}"
    script:
        "../../scripts/train_segmenter.py"


rule predict:
    """Segment the real test part with a trained tool."""
    input:
        prepared=rules.prepare.output.prepared,
        folder=rules.train_segmenter.output.folder,
    output:
        predictions=directory(f"{RESULTS}/predictions/{{tool}}/{{arm}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/predict.{{tool}}.{{arm}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict.{{tool}}.{{arm}}.{{seed}}.tsv"
    conda:
        tool_environment
    threads: CONFIG.segment.threads
    resources:
        gpu=gpus_of_tool,
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(
            CONFIG, "segment.threads", "segment.anisotropy", "segment.cellpose"
        ),
    message:
        "Segmenting the test part: {wildcards.tool}, {wildcards.arm}"
    script:
        "../../scripts/predict.py"


rule predict_generalist:
    """Segment the real test part with the zero-shot generalist, if it is there."""
    input:
        prepared=rules.prepare.output.prepared,
    output:
        predictions=directory(f"{RESULTS}/predictions/generalist/none/seed0"),
    log:
        f"{RESULTS}/logs/predict_generalist.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_generalist.tsv"
    conda:
        "../../envs/cellpose.yaml"
    threads: CONFIG.segment.threads
    resources:
        gpu=gpus_of_tool,
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, "segment.threads", "segment.anisotropy"),
        tool="generalist",
    message:
        "Segmenting the test part with the zero-shot generalist"
    script:
        "../../scripts/predict_generalist.py"
