rule fit_sketch:
    """Fit the sketch parameters to the unannotated training images."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
    output:
        **SHAPE,
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
        mem_mb=grown(4000),
        runtime=grown(60),
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
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "simulate", "seed"),
    message:
        "Drawing labelled sketches, shard {wildcards.shard}"
    script:
        "../../scripts/simulate.py"


rule photograph:
    """One shard of sketches with the fitted camera noise: the arm without diffusion."""
    input:
        sketch=rules.fit_sketch.output.sketch,
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        sketches=rules.simulate.output.sketches,
    output:
        photographs=directory(f"{RESULTS}/photographs/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/photograph.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/photograph.{{shard}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "seed"),
    message:
        "Adding camera noise to the sketches, shard {wildcards.shard}"
    script:
        "../../scripts/photograph.py"
