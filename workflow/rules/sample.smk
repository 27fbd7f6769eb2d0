rule synthesise:
    """Turn one shard of sketches into realistic images with the same labels."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        model=rules.train_diffusion.output.model,
        start=rules.choose_start.output.start,
        sketches=rules.simulate.output.sketches,
    output:
        synthetic=directory(f"{RESULTS}/synthetic/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/synthesise.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/synthesise.{{shard}}.tsv"
    priority: 10
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=6000,
        runtime=720,
    params:
        config=sections(CONFIG, "synthesise", "seed"),
    message:
        "Turning sketches into images, shard {wildcards.shard}"
    script:
        "../../scripts/synthesise.py"


rule check:
    """Score every synthetic image and object, and drop the bad ones."""
    input:
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        synthetic=expand(rules.synthesise.output.synthetic, shard=SHARDS),
    output:
        checked=directory(f"{RESULTS}/checked"),
    log:
        f"{RESULTS}/logs/check.log",
    benchmark:
        f"{RESULTS}/benchmarks/check.tsv"
    priority: 10
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        config=sections(CONFIG, "check", "seed"),
    message:
        "Checking that synthetic images show what their labels say"
    script:
        "../../scripts/check.py"
