# Compute nodes of clusters often have no internet.
localrules:
    download,


rule download:
    """Download one file of a public data set, or copy it from a mirror."""
    output:
        target=f"{CONFIG.source.downloads}/{{dataset}}/{{file}}",
    log:
        f"{RESULTS}/logs/download/{{dataset}}/{{file}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{dataset}}/{{file}}.tsv"
    wildcard_constraints:
        # Parts of a paper download each its own; without a data set there is nothing.
        dataset=CONFIG.source.dataset or r"[^\s\S]",
        file="[^/]+",
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(1000),
        runtime=grown(720),
    params:
        config=sections(CONFIG, *CONFIG.source.download_keys),
    message:
        "Downloading {wildcards.file} of {wildcards.dataset}"
    script:
        "../../scripts/download.py"


rule acquire:
    """Make an image set of the packaged images, your own folder or a public data set."""
    input:
        files=CONFIG.source.downloaded,
    output:
        images=directory(f"{RESULTS}/images"),
    log:
        f"{RESULTS}/logs/acquire.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(2000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "source"),
        # Another layout in the registry makes another image set.
        entry=CONFIG.source.entry and CONFIG.source.entry.model_dump(mode="json"),
    message:
        "Reading the images"
    script:
        "../../scripts/acquire.py"


rule prepare:
    """Divide into training and test part; fit the intensity range on the former."""
    input:
        images=rules.acquire.output.images,
    output:
        prepared=directory(f"{RESULTS}/prepared"),
        normalisation=f"{RESULTS}/normalisation.json",
    log:
        f"{RESULTS}/logs/prepare.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=grown(4000),
        runtime=grown(60),
    params:
        config=sections(CONFIG, "split", "normalise", "seed"),
    message:
        "Dividing the images into a training and a test part"
    script:
        "../../scripts/prepare.py"
