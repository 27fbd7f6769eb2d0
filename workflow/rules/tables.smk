rule write_config:
    """Write the whole config, with all defaults filled in."""
    output:
        resolved=f"{RESULTS}/config.yaml",
    log:
        f"{RESULTS}/logs/write_config.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_config.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    params:
        config=CONFIG.model_dump(mode="json"),
    message:
        "Writing down the config"
    script:
        "../../scripts/write_config.py"


rule tabulate:
    """Put all scores into one table of results, with intervals."""
    input:
        all_scores,
        config=rules.write_config.output.resolved,
    output:
        csv=report(
            f"{RESULTS}/tables/segmentation.csv",
            caption="../report/segmentation.rst",
            category="Segmentation",
            labels={"table": "all results"},
        ),
        md=f"{RESULTS}/tables/segmentation.md",
        per_image=report(
            f"{RESULTS}/tables/per_image.csv",
            caption="../report/per_image.rst",
            category="Segmentation",
            labels={"table": "each image"},
        ),
    log:
        f"{RESULTS}/logs/tabulate.log",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    resources:
        mem_mb=2000,
        runtime=60,
    message:
        "Writing the table of results"
    script:
        "../../scripts/tabulate.py"
