rule make_pairs:
    """Compute widefield images: pairs to train on, or those of the real test part."""
    input:
        pixels_of_pairs,
        prepared=rules.prepare.output.prepared,
        sources=sources_of_pairs,
    output:
        pairs=directory(f"{RESULTS}/pairs/{{pairs_of}}"),
    log:
        f"{RESULTS}/logs/make_pairs.{{pairs_of}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_pairs.{{pairs_of}}.tsv"
    retries: SLICES
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(120),
    params:
        config=sections(
            CONFIG, "restore.pairs", "restore.patch", "restore.optics", "seed"
        ),
    message:
        "Computing widefield images: {wildcards.pairs_of}"
    script:
        "../../scripts/make_pairs.py"


rule train_restorer:
    """Train CARE on the pairs of one arm; killed, it begins anew."""
    input:
        pairs=f"{RESULTS}/pairs/{{arm}}",
    output:
        folder=directory(f"{RESULTS}/restorers/care/{{arm}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/train_restorer.{{arm}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_restorer.{{arm}}.{{seed}}.tsv"
    wildcard_constraints:
        arm=RESTORATION_ARMS,
    conda:
        "../../envs/care.yaml"
    threads: CONFIG.restore.threads
    resources:
        # All pairs are held in memory, twice 4 bytes a pixel.
        mem_mb=grown(3000 + CONFIG.restore.pairs * CONFIG.restore.patch**2 * 9 // 10**6),
        # It cannot go on in another time slice.
        runtime=grown(1440),
    params:
        config=sections(CONFIG, "restore.care", "restore.threads"),
    message:
        "Training CARE on the {wildcards.arm} arm, seed {wildcards.seed}"
    script:
        "../../scripts/train_restorer.py"


rule restore:
    """Restore the widefield images of the real test part."""
    input:
        pairs=f"{RESULTS}/pairs/test",
        folder=rules.train_restorer.output.folder,
    output:
        restored=directory(f"{RESULTS}/restored/care/{{arm}}/seed{{seed}}"),
    log:
        f"{RESULTS}/logs/restore.{{arm}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/restore.{{arm}}.{{seed}}.tsv"
    wildcard_constraints:
        arm=RESTORATION_ARMS,
    retries: SLICES
    conda:
        "../../envs/care.yaml"
    threads: CONFIG.restore.threads
    resources:
        mem_mb=grown(6000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, "restore.care", "restore.threads"),
    message:
        "Restoring the test part: {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../../scripts/restore.py"


rule evaluate_restoration:
    """Compare restored images, or the widefield images themselves, with the truth."""
    input:
        pairs=f"{RESULTS}/pairs/test",
        restored=restored_images,
    output:
        scores=directory(f"{RESULTS}/restoration/{{restorer}}"),
    log:
        f"{RESULTS}/logs/evaluate_restoration/{{restorer}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_restoration/{{restorer}}.tsv"
    wildcard_constraints:
        restorer=rf"care/{RESTORATION_ARMS}/seed\d+|widefield/none/seed0",
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(3000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "seed"),
    message:
        "Measuring resolution and accuracy: {wildcards.restorer}"
    script:
        "../../scripts/evaluate_restoration.py"


rule tabulate_restoration:
    """Put resolution and accuracy of all arms into one table, with intervals."""
    input:
        restoration_scores,
        training_pairs,
        config=rules.write_config.output.resolved,
    output:
        csv=report(
            f"{RESULTS}/tables/restoration.csv",
            caption="../report/restoration_table.rst",
            category="Restoration",
            labels={"table": "all results"},
        ),
        md=f"{RESULTS}/tables/restoration.md",
    log:
        f"{RESULTS}/logs/tabulate_restoration.log",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_restoration.tsv"
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
        "Writing the table of restoration"
    script:
        "../../scripts/tabulate_restoration.py"


rule draw_restoration:
    """Draw restored images of the real test part beside the truth, and their rings."""
    input:
        restoration_scores,
        all_restored,
        test=f"{RESULTS}/pairs/test",
        table=rules.tabulate_restoration.output.csv,
        config=rules.write_config.output.resolved,
    output:
        restoration=report(
            f"{RESULTS}/figures/restoration.png",
            caption="../report/restoration.rst",
            category="Restoration",
            labels={"figure": "restoration"},
        ),
        frc_curves=report(
            f"{RESULTS}/figures/frc_curves.png",
            caption="../report/frc_curves.rst",
            category="Restoration",
            labels={"figure": "Fourier ring correlation"},
        ),
    log:
        f"{RESULTS}/logs/draw_restoration.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_restoration.tsv"
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
        "Drawing restored images"
    script:
        "../../scripts/draw_restoration.py"
