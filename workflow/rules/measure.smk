rule evaluate:
    """Compare predictions with the annotation of the real test part."""
    input:
        prepared=rules.prepare.output.prepared,
        predictions=f"{RESULTS}/predictions/{{method}}",
    output:
        scores=directory(f"{RESULTS}/scores/{{method}}"),
    log:
        f"{RESULTS}/logs/evaluate/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{method}}.tsv"
    wildcard_constraints:
        method=r"\w+/\w+/seed\d+",
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "evaluate"),
    message:
        "Measuring {wildcards.method} on the real test part"
    script:
        "../../scripts/evaluate.py"


rule measure_realism:
    """Compare synthetic with real images, and look for copies of training images."""
    input:
        pixels_of_gathered,
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        checked=f"{RESULTS}/checked",
        camera_images=f"{RESULTS}/camera",
    output:
        realism=f"{RESULTS}/realism.json",
        memorisation=f"{RESULTS}/memorisation.csv",
        pairs=directory(f"{RESULTS}/memorisation"),
    log:
        f"{RESULTS}/logs/measure_realism.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_realism.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "audit", "seed"),
    message:
        "Measuring realism and memorisation"
    script:
        "../../scripts/measure_realism.py"


rule measure_populations:
    """Compare the simulated objects with those of the real images."""
    input:
        pixels_of_gathered,
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        checked=f"{RESULTS}/checked",
    output:
        populations=report(
            f"{RESULTS}/tables/populations.csv",
            caption="../report/populations.rst",
            category="Sketches",
            labels={"table": "populations"},
        ),
        histograms=f"{RESULTS}/populations.json",
    log:
        f"{RESULTS}/logs/measure_populations.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_populations.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(
            CONFIG,
            "evaluate.resamples",
            "evaluate.confidence",
            "appearance.organism",
            "appearance.data_kind",
            "scale",
            "seed",
        ),
    message:
        "Comparing simulated objects with real ones"
    script:
        "../../scripts/measure_populations.py"
