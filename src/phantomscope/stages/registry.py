"""All stages by name, for the command line.

The module of a stage is imported when the stage is asked for: to tabulate, nobody waits
for the libraries of those that train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from phantomscope.stages.perform import Stage

_OF_MODULES = (
    ("data", ("download", "acquire", "prepare")),
    ("sketching", ("fit_sketch", "simulate", "photograph")),
    ("localising", ("simulate_tables",)),
    ("pseudo", ("pseudo_sketches",)),
    ("diffusion", ("train_diffusion", "choose_start", "distil")),
    ("synthesis", ("synthesise",)),
    ("checking", ("check", "gather")),
    ("publish", ("publish",)),
    ("realism", ("measure_realism",)),
    ("populations", ("measure_populations",)),
    ("appearance", ("measure_forward", "measure_backward")),
    ("analysis", ("train_segmenter", "predict", "evaluate")),
    (
        "restoration",
        (
            "make_pairs", "train_restorer", "restore", "evaluate_restoration",
            "tabulate_restoration",
        ),
    ),
    (
        "plates",
        (
            "survey_plates", "fetch_plates", "acquire_plates", "measure_intensities",
            "scale_fields", "pair_fields",
        ),
    ),
    ("translation", ("train_translator", "translate")),
    (
        "translated",
        ("evaluate_translation", "join_scores", "tabulate_translation"),
    ),
    ("codec", ("train_codec",)),
    ("profiles", ("measure_profiles", "compare_profiles")),
    ("filtering", ("cut_crops", "compose_set", "train_filter")),
    ("filtered", ("filter_images",)),
    ("detection", ("train_detector", "detect", "evaluate_detection")),
    ("finding", ("train_finder", "find_objects")),
    (
        "filter_scores",
        ("evaluate_filter", "evaluate_plate", "tabulate_filter"),
    ),
    (
        "studies",
        ("study_steps", "plant_artefacts", "study_artefacts", "tabulate_studies"),
    ),
    ("results", ("write_config", "tabulate", "draw_figures", "report")),
    ("papers", ("tabulate_paper", "draw_paper")),
)  # fmt: skip


class _Stages(Mapping[str, Stage]):
    """Functions by name, each looked up in the module that it is written in."""

    def __init__(self) -> None:
        self._modules = {
            name: module for module, names in _OF_MODULES for name in names
        }

    def __getitem__(self, name: str) -> Stage:
        module = import_module(f"phantomscope.stages.{self._modules[name]}")
        stage: Stage = getattr(module, name)
        return stage

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __contains__(self, name: object) -> bool:
        # That of `Mapping` would import the module.
        return name in self._modules


STAGES: Mapping[str, Stage] = _Stages()
