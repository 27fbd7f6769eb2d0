rule fit_sketch:
    """Fit the sketch parameters to the unannotated training images."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
    output:
        sketch=f"{RESULTS}/sketch.yaml",
        fit=f"{RESULTS}/fit.json",
        objects=f"{RESULTS}/fit_objects.csv",
    log:
        f"{RESULTS}/logs/fit_sketch.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_sketch.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=sections(CONFIG, "fit", "seed", *FIT_OPTIONS),
    message:
        "Fitting the sketch parameters to the unannotated images"
    script:
        "../../scripts/fit_sketch.py"


rule simulate:
    """Draw one shard of labelled sketches."""
    input:
        sketch=rules.fit_sketch.output.sketch,
    output:
        sketches=directory(f"{RESULTS}/sketches/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/simulate.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/simulate.{{shard}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        config=sections(CONFIG, "simulate", "seed"),
    message:
        "Drawing labelled sketches, shard {wildcards.shard}"
    script:
        "../../scripts/simulate.py"


rule photograph:
    """Sketches with the fitted camera noise: the arm without diffusion."""
    input:
        sketch=rules.fit_sketch.output.sketch,
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        sketches=expand(rules.simulate.output.sketches, shard=SHARDS),
    output:
        camera_images=directory(f"{RESULTS}/camera"),
    log:
        f"{RESULTS}/logs/photograph.log",
    benchmark:
        f"{RESULTS}/benchmarks/photograph.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        config=sections(CONFIG, "seed"),
    message:
        "Adding camera noise to the sketches"
    script:
        "../../scripts/photograph.py"
