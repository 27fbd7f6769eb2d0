# Translation: predicted stains and instances against the real ones.
rule evaluate_translation:
    """Compare predicted stains and instances of a shard with the real ones."""
    input:
        pairs=rules.pair_fields.output.pairs,
        pixels=rules.pair_fields.input.scaled,
        translated=rules.translate.output.translated,
    output:
        scores=directory(
            f"{RESULTS}/shard_scores/{{method}}/seed{{seed}}/shard-{{shard}}"
        ),
    log:
        f"{RESULTS}/logs/evaluate_translation.{{method}}.{{seed}}.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_translation.{{method}}.{{seed}}.{{shard}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(240),
    params:
        config=sections(CONFIG, "translate"),
    message:
        "Measuring {wildcards.method}, seed {wildcards.seed}, shard {wildcards.shard}"
    script:
        "../../scripts/evaluate_translation.py"


rule join_scores:
    """Join what was measured in all shards; each image of the test part must be there."""
    input:
        pairs=rules.pair_fields.output.pairs,
        parts=scored_shards,
    output:
        scores=directory(f"{RESULTS}/translation_scores/{{method}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/join_scores.{{method}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/join_scores.{{method}}.{{seed}}.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "translate.plates", "translate.blocks"),
    message:
        "Joining the scores of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/join_scores.py"
