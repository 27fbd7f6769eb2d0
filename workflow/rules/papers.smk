# Papers: each part is an experiment of its own, with the same rules; then the tables.
for part in PARTS:
    module_name = f"{PAPER.paper}_{part.preset}_{part.name}"
    rule_names = f"{module_name}_"

    module:
        name: module_name
        snakefile:
            "../experiment.smk"
        config:
            part.options

    use rule * from module_name as rule_names*


PAPER_RESULTS = [f"results/{part.config.name}" for part in PARTS]
if workflow.is_main_process:
    OWNED = [RESULTS, CONFIG.source.downloads, *PAPER_RESULTS]
    OWNED += [part.config.source.downloads for part in PARTS]
    ATTENDING = attend(Path(".snakemake"), [f"{path}/" for path in OWNED])
    bring_to_present(*map(Path, OWNED))
PAPER_TABLES = [f"{path}/report.html" for path in PAPER_RESULTS]


rule eschweiler:
    """All tables and figures of Eschweiler & Stegmaier."""
    input:
        PAPER_TABLES if PAPER_NAME == "eschweiler" else [],
