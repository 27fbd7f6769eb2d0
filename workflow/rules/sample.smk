rule synthesise:
    """Turn one shard of sketches into realistic images with the same labels."""
    input:
        prepared=rules.prepare.output.prepared,
        normalisation=rules.prepare.output.normalisation,
        model=synthesising_model,
        start=rules.choose_start.output.start,
        sketches=rules.simulate.output.sketches,
    output:
        synthetic=directory(f"{RESULTS}/synthetic/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/synthesise.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/synthesise.{{shard}}.tsv"
    priority: 10
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    threads: CONFIG.synthesise.threads
    resources:
        gpu=GPU,
        mem_mb=grown(6000),
        runtime=720,
    params:
        config=sections(CONFIG, "synthesise", "seed"),
    message:
        "Turning sketches into images, shard {wildcards.shard}"
    script:
        "../../scripts/synthesise.py"


rule check:
    """Score every synthetic image and object of a shard, and drop the bad ones."""
    input:
        normalisation=rules.prepare.output.normalisation,
        sketch=rules.fit_sketch.output.sketch,
        synthetic=rules.synthesise.output.synthetic,
    output:
        checks=directory(f"{RESULTS}/checks/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/check.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check.{{shard}}.tsv"
    priority: 10
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, "check", "seed"),
    message:
        "Checking that images show what their labels say, shard {wildcards.shard}"
    script:
        "../../scripts/check.py"


rule gather:
    """Join the shards of an image set into one manifest."""
    input:
        parts=parts_to_gather,
    output:
        gathered=directory(f"{RESULTS}/{{gathered}}"),
    log:
        f"{RESULTS}/logs/gather.{{gathered}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather.{{gathered}}.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(1000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "seed"),
    message:
        "Joining the shards: {wildcards.gathered}"
    script:
        "../../scripts/gather.py"
