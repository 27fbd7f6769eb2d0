rule acquire:
    """Make an image set of the packaged images or of your own folder."""
    output:
        images=directory(f"{RESULTS}/images"),
    log:
        f"{RESULTS}/logs/acquire.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire.tsv"
    conda:
        "../../envs/phantomscope.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        config=sections(CONFIG, "source"),
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
        mem_mb=4000,
        runtime=60,
    params:
        config=sections(CONFIG, "split", "normalise", "seed"),
    message:
        "Dividing the images into a training and a test part"
    script:
        "../../scripts/prepare.py"
