rule measure_profiles:
    """Measure features of the objects of a shard of the test part, on real or predicted stains."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        translated=profiled_predictions,
    output:
        profiles=directory(f"{RESULTS}/profiles/{{profiled}}/shard-{{shard}}"),
    log:
        f"{RESULTS}/logs/measure_profiles/{{profiled}}.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_profiles/{{profiled}}.{{shard}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, *PAIRING, "translate.blocks", "translate.shards"),
        objects=lambda wildcards: wildcards.profiled.rpartition("/")[2].replace(
            "real", "true"
        ),
    message:
        "Measuring features of objects: {wildcards.profiled}, shard {wildcards.shard}"
    script:
        "../../scripts/measure_profiles.py"


rule compare_profiles:
    """Correlate features of real and predicted stains, and retrieve replicates."""
    input:
        real=profile_shards("real"),
        profiles=profiles_to_compare,
    output:
        scores=directory(f"{RESULTS}/profile_scores/{{method}}/{{way}}"),
    log:
        f"{RESULTS}/logs/compare_profiles.{{method}}.{{way}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_profiles.{{method}}.{{way}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(6000),
        runtime=grown(240),
    params:
        config=sections(
            CONFIG, *PAIRING, "translate.blocks", "translate.seeds", "evaluate", "seed"
        ),
    message:
        "Comparing features of {wildcards.method}, objects: {wildcards.way}"
    script:
        "../../scripts/compare_profiles.py"
