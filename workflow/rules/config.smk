rule write_config:
    """Write the whole config, with all defaults filled in."""
    output:
        resolved=f"{RESULTS}/config.yaml",
    log:
        f"{RESULTS}/logs/write_config.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_config.tsv"
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(1000),
        runtime=grown(10),
    params:
        config=CONFIG.model_dump(mode="json"),
    message:
        "Writing down the config"
    script:
        "../../scripts/write_config.py"
