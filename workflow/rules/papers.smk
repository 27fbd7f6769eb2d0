# Papers: each part is an experiment of its own, with the same rules; then the tables.
DOWNLOADING = set()
for part in PARTS:
    module_name = f"{PAPER.paper}_{part.preset}_{part.name}"
    rule_names = f"{module_name}_"

    module:
        name: module_name
        snakefile:
            "../experiment.smk"
        config:
            part.options

    if part.config.source.dataset in DOWNLOADING:

        # Presets share what was downloaded: one rule makes a file.
        use rule * from module_name exclude download as rule_names*

    else:

        use rule * from module_name as rule_names*

    DOWNLOADING.add(part.config.source.dataset)


PAPER_RESULTS = [f"results/{part.config.name}" for part in PARTS]
if workflow.is_main_process:
    OWNED = [RESULTS, CONFIG.source.downloads, *PAPER_RESULTS]
    OWNED += [part.config.source.downloads for part in PARTS]
    ATTENDING = attend(Path(".snakemake"), [f"{path}/" for path in OWNED])
    bring_to_present(*map(Path, OWNED))
    if PAPER:
        print(estimate([part.config for part in PARTS]), file=sys.stderr)
        starts = [f"{PAPER.paper}_{part.preset}_{part.name}_" for part in PARTS]
        print(render_requests(workflow.rules, starts), file=sys.stderr)


PAPER_TABLES = []
for preset in PAPER.presets if PAPER else []:
    paper_name = f"{PAPER.paper}_{preset}"
    folder = PAPER.folder(preset)
    parts_there = [f"results/{p.config.name}" for p in PARTS if p.preset == preset]
    reports = [f"{path}/report.html" for path in parts_there]
    table_files = expand(
        "{folder}/tables/{name}.{kind}",
        folder=folder,
        name=PAPER.about.tables,
        kind=["csv", "md"],
    )
    figure_files = expand(
        "{folder}/figures/{name}.png", folder=folder, name=PAPER.about.figures
    )

    rule:
        name:
            f"tabulate_{paper_name}"
        input:
            reports,
        output:
            tables=report(table_files, category="Paper"),
        log:
            f"{folder}/logs/tabulate_paper.log",
        benchmark:
            f"{folder}/benchmarks/tabulate_paper.tsv"
        conda:
            "../../envs/phantomscope.yaml"
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            config={"seed": 0},
            parts=parts_there,
        message:
            "Writing published values beside ours"
        script:
            "../../scripts/tabulate_paper.py"

    rule:
        name:
            f"draw_{paper_name}"
        input:
            reports,
        output:
            figures=report(figure_files, category="Paper"),
        log:
            f"{folder}/logs/draw_paper.log",
        benchmark:
            f"{folder}/benchmarks/draw_paper.tsv"
        conda:
            "../../envs/phantomscope.yaml"
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            config={"seed": 0},
            parts=parts_there,
        message:
            "Drawing the figures of the paper"
        script:
            "../../scripts/draw_paper.py"

    PAPER_TABLES += [*reports, *table_files, *figure_files]


rule eschweiler:
    """All tables and figures of Eschweiler & Stegmaier."""
    input:
        PAPER_TABLES if PAPER_NAME == "eschweiler" else [],


rule saguy:
    """All tables and figures of Saguy et al."""
    input:
        PAPER_TABLES if PAPER_NAME == "saguy" else [],


rule cellresdm:
    """All tables and figures of Xing et al. (CellResDM)."""
    input:
        PAPER_TABLES if PAPER_NAME == "cellresdm" else [],


rule semantic_filtering:
    """All tables and figures of Javer & Rittscher (semantic filtering)."""
    input:
        PAPER_TABLES if PAPER_NAME == "semantic_filtering" else [],
