"""The stages of an experiment: each reads and writes files, with or without Snakemake.

A stage takes the config and paths as keyword arguments. The rule of the same name maps
its inputs and outputs to them; so does `python -m phantomscope STAGE`.
"""
