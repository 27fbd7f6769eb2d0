# Semantic filtering: objects of a plate. `filter_images` and `find_objects` find them.
# Compute nodes of clusters often have no internet.
localrules:
    download_plate,


use rule download as download_plate with:
    output:
        target=f"{PLATE.downloads}/{{dataset}}/{{file}}",
    log:
        f"{RESULTS}/logs/download_plate/{{dataset}}/{{file}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_plate/{{dataset}}/{{file}}.tsv"
    wildcard_constraints:
        dataset=PLATE.dataset,
        file="[^/]+",
    params:
        config=sections(PLATE_CONFIG, *PLATE.download_keys),


use rule acquire as acquire_plate with:
    input:
        files=PLATE.downloaded,
    output:
        images=directory(f"{RESULTS}/plate"),
    log:
        f"{RESULTS}/logs/acquire_plate.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire_plate.tsv"
    params:
        config=sections(PLATE_CONFIG, "source"),
        entry=PLATE.entry.model_dump(mode="json"),
    message:
        "Reading the images of the plate"


rule evaluate_plate:
    """Count the objects of each well of a plate."""
    input:
        prepared=rules.prepare.output.prepared,
        found=f"{RESULTS}/plate_found/{RUN}",
    output:
        scores=f"{RESULTS}/plate_scores/{RUN}/plate.csv",
    log:
        f"{RESULTS}/logs/evaluate_plate.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_plate.{{target}}.{{method}}.{{images}}.{{fold}}.{{seed}}.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(120),
    params:
        config=sections(CONFIG, *TRAINING, "filter.objects", "seed"),
    message:
        "Counting {wildcards.target} on the plate by {wildcards.method}, fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../../scripts/evaluate_plate.py"
