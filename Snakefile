# Root shim: `snakemake` in a clone runs the demo, or what `--configfile` asks for.
include: "workflow/Snakefile"


rule default:
    """All that the given config asks for; without a config the demo."""
    default_target: True
    input:
        rules.all.input,
