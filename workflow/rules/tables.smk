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
    localrule: True
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    message:
        "Writing the table of results"
    script:
        "../../scripts/tabulate.py"


rule draw_figures:
    """Draw the figures of images, sketches, training and checks."""
    input:
        rules.tabulate.output.csv,
        pixels_of_gathered,
        images=rules.acquire.output.images,
        prepared=rules.prepare.output.prepared,
        objects=rules.fit_sketch.output.objects,
        metrics=rules.train_diffusion.output.metrics,
        start=rules.choose_start.output.start,
        checked=f"{RESULTS}/checked",
        realism=rules.measure_realism.output.realism,
        populations=rules.measure_populations.output.populations,
        config=rules.write_config.output.resolved,
    output:
        gallery=report(
            f"{RESULTS}/figures/gallery.png",
            caption="../report/gallery.rst",
            category="Images",
            labels={"figure": "gallery"},
        ),
        fit=report(
            f"{RESULTS}/figures/fit.png",
            caption="../report/fit.rst",
            category="Sketches",
            labels={"figure": "fit"},
        ),
        training=report(
            f"{RESULTS}/figures/training.png",
            caption="../report/training.rst",
            category="Diffusion model",
            labels={"figure": "training"},
        ),
        t_start=report(
            f"{RESULTS}/figures/t_start.png",
            caption="../report/t_start.rst",
            category="Diffusion model",
            labels={"figure": "t start"},
        ),
        checks=report(
            f"{RESULTS}/figures/checks.png",
            caption="../report/checks.rst",
            category="Images",
            labels={"figure": "checks"},
        ),
        realism=report(
            f"{RESULTS}/figures/realism.png",
            caption="../report/realism.rst",
            category="Images",
            labels={"figure": "realism"},
        ),
        populations=report(
            f"{RESULTS}/figures/populations.png",
            caption="../report/populations.rst",
            category="Sketches",
            labels={"figure": "populations"},
        ),
        memorisation=report(
            f"{RESULTS}/figures/memorisation.png",
            caption="../report/memorisation.rst",
            category="Images",
            labels={"figure": "memorisation"},
        ),
        costs=report(
            f"{RESULTS}/figures/costs.png",
            caption="../report/costs.rst",
            category="Costs",
            labels={"figure": "costs"},
        ),
    log:
        f"{RESULTS}/logs/draw_figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figures.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
        figures=lambda wildcards, output: list(output),
    message:
        "Drawing figures"
    script:
        "../../scripts/draw_figures.py"


rule draw_segmentations:
    """Draw the segmentations of the real test part and their scores."""
    input:
        all_scores,
        config=rules.write_config.output.resolved,
    output:
        overlays=report(
            f"{RESULTS}/figures/overlays.png",
            caption="../report/overlays.rst",
            category="Segmentation",
            labels={"figure": "overlays"},
        ),
        average_precision=report(
            f"{RESULTS}/figures/average_precision.png",
            caption="../report/average_precision.rst",
            category="Segmentation",
            labels={"figure": "average precision"},
        ),
    log:
        f"{RESULTS}/logs/draw_segmentations.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_segmentations.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
        figures=lambda wildcards, output: list(output),
    message:
        "Drawing segmentations"
    script:
        "../../scripts/draw_segmentations.py"


rule report:
    """Write the report: one HTML file with all pictures and tables."""
    input:
        rules.tabulate.output.csv,
        rules.draw_figures.output,
        segmentation_figures,
        predictions_without_scores,
        wanted_besides,
        config=rules.write_config.output.resolved,
    output:
        html=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=CONFIG.model_dump(mode="json"),
        root=subpath(input.config, parent=True),
    message:
        "Writing the report"
    script:
        "../../scripts/report.py"
