rule train_detector:
    """Train StarDist on brightfield or on a stain; killed, it begins anew."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
    output:
        folder=directory(f"{RESULTS}/detectors/{{detector}}/{{objects}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/train_detector.{{detector}}.{{objects}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_detector.{{detector}}.{{objects}}.{{seed}}.tsv"
    conda:
        "../../envs/stardist.yaml"
    threads: CONFIG.segment.threads
    resources:
        mem_mb=grown(6000),
        # It cannot go on in another time slice.
        runtime=grown(1440),
    params:
        config=sections(
            CONFIG,
            "segment.stardist",
            "segment.megavoxels",
            "segment.threads",
            "translate.plates",
            "translate.detector_stains",
            "seed",
        ),
    message:
        "Training StarDist to find {wildcards.objects}: {wildcards.detector}, seed {wildcards.seed}"
    script:
        "../../scripts/train_detector.py"


rule detect:
    """Find nuclei or cells of the test part with a trained StarDist."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        folder=rules.train_detector.output.folder,
    output:
        detected=directory(f"{RESULTS}/detected/{{detector}}/{{objects}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/detect.{{detector}}.{{objects}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/detect.{{detector}}.{{objects}}.{{seed}}.tsv"
    retries: SLICES
    conda:
        "../../envs/stardist.yaml"
    threads: CONFIG.segment.threads
    resources:
        mem_mb=grown(4000),
        runtime=grown(720),
    params:
        config=sections(
            CONFIG,
            "segment.threads",
            "translate.plates",
            "translate.detector_stains",
        ),
    message:
        "Finding {wildcards.objects}: {wildcards.detector}, seed {wildcards.seed}"
    script:
        "../../scripts/detect.py"


rule evaluate_detection:
    """Compare what StarDist found with the labels of the test part."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        detected=rules.detect.output.detected,
    output:
        scores=directory(
            f"{RESULTS}/detection_scores/{{detector}}/{{objects}}/seed{{seed}}"
        ),
    log:
        f"{RESULTS}/logs/evaluate_detection.{{detector}}.{{objects}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_detection.{{detector}}.{{objects}}.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=sections(
            CONFIG,
            "translate.plates",
            "translate.detector_stains",
            "translate.blocks",
        ),
    message:
        "Measuring StarDist: {wildcards.objects}, {wildcards.detector}, seed {wildcards.seed}"
    script:
        "../../scripts/evaluate_detection.py"
