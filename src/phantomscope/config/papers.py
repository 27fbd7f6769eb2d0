"""Papers: several experiments, such as one per organism, whose tables are joined.

A paper's config (``config/<paper>/<scale>.yaml``) names its parts; each is a config of
an experiment of its own. What they share stands under ``common``. A preset is a way to
do it (as published, as released, ours), kept in ``config/<paper>/presets.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from phantomscope.config.datasets import CHECKOUT, suggestion
from phantomscope.config.load import make_config, read_yaml, sections
from phantomscope.config.model import Config
from phantomscope.config.option import Section
from phantomscope.config.translation import PAIRING
from phantomscope.errors import PhantomscopeError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


@dataclass(frozen=True)
class Description:
    """What a paper is about, and what is made of its parts.

    How its tables and figures are made stands in `phantomscope.tables.papers`.

    Attributes
    ----------
    authors : str
        As one refers to it.
    tables, figures : tuple of str
        Names of the files.
    organisms : mapping of str to str
        What its parts show: keys of its published values, with names for people.
    data_sets : mapping of str to str
        The paper's own images of each, by their names among the public data sets.
    """

    authors: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    organisms: Mapping[str, str]
    data_sets: Mapping[str, str]


PAPERS = {
    "eschweiler": Description(
        "Eschweiler & Stegmaier 2023",
        ("fig2", "fig3", "sec4", "pareto"),
        ("fig1", "fig2", "fig3", "fig5", "fig6"),
        {"ath": "A. thaliana", "ce": "C. elegans", "tric": "T. castaneum",
         "gowt1": "GOWT1 stem cells", "hela": "HeLa"},
        {"ath": "ath_meristem", "ce": "ctc_ce", "tric": "ctc_tric",
         "gowt1": "ctc_gowt1", "hela": "ctc_hela"},
    ),
    "saguy": Description(
        "Saguy et al. 2024",
        ("memorisation", "resolution", "training"),
        ("fig1", "fig2", "fig3", "fig4", "ncc", "sweep"),
        {"mt": "microtubules", "mito": "mitochondria"},
        {"mt": "shareloc_tubulin_nocodazole", "mito": "shareloc_tom22"},
    ),
    "cellresdm": Description(
        "Xing et al. (CellResDM)",
        ("quality", "features", "segmentation", "latent", "speed", "uncertainty",
         "artefacts"),
        ("stains", "stain_quality", "instances", "features", "matching", "steps",
         "reliability", "spread", "artefacts"),
        {"jump": "Cell Painting, A549 and U2OS"},
        {"jump": "cpg0000-jump-pilot/source_4/2020_11_04_CPJUMP1"},
    ),
    "semantic_filtering": Description(
        "Javer & Rittscher 2019",
        ("worms", "bbbc026", "bbbc042", "learning_curve", "layers"),
        ("fig1", "fig2", "fig3", "fig4", "fig5"),
        {"worms": "C. elegans, videos", "bbbc026": "hepatocytes and fibroblasts",
         "bbbc042": "astrocytes", "microglia": "microglia", "nuclei": "nuclei"},
        # Videos and microglia of the paper have no public name: who has them says so.
        # Nuclei are none of the paper's.
        {"worms": "", "bbbc026": "bbbc026", "bbbc042": "bbbc042", "microglia": "",
         "nuclei": "not in the paper"},
    ),
}  # fmt: skip


class Paper(Section):
    """A paper's config.

    Attributes
    ----------
    paper : str
        Which one.
    experiment : str
        Folder under ``results/``; the name of the paper by default.
    scale : str
        How large the run is.
    presets : list of str
        Ways to do it; each runs all parts.
    common : dict
        Options of all parts.
    parts : dict
        Options of each part.
    """

    paper: str
    experiment: Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")] = ""
    scale: Literal["smoke", "pilot", "paper"] = "paper"
    presets: Annotated[list[Name], Field(min_length=1)] = Field(["best"])
    common: dict[str, Any] = Field({})
    parts: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1)]

    @property
    def name(self) -> str:
        """Folder under ``results/``."""
        return self.experiment or self.paper

    def folder(self, preset: str) -> str:
        """Return where tables go: those of the first preset stand on top."""
        first = preset == self.presets[0]
        return f"results/{self.name}" if first else f"results/{self.name}/{preset}"

    @field_validator("paper")
    @classmethod
    def _known(cls, paper: str) -> str:
        if paper not in PAPERS:
            raise ValueError(f"no such paper; {suggestion(paper, list(PAPERS))}")
        return paper

    @property
    def about(self) -> Description:
        """What the paper is about."""
        return PAPERS[self.paper]

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        if len(set(self.presets)) != len(self.presets):
            raise ValueError(f"`presets` names one twice: {self.presets}")
        return self


@dataclass(frozen=True)
class Part:
    """One experiment of a paper.

    Attributes
    ----------
    name, preset : str
        Such as ``ath`` and ``plos``.
    options : dict
        What the config holds beside the defaults.
    config : Config
        Checked.
    """

    name: str
    preset: str
    options: dict[str, Any]
    config: Config


def asked_paper(options: Mapping[str, Any], arguments: list[str]) -> str | None:
    """Return the paper that a run is about, if it is about one.

    Parameters
    ----------
    options : Mapping
        The config that the workflow was given: its key ``paper``.
    arguments : list of str
        The command line: a target, a file or a config below a folder of that name. The
        jobs of a cluster name their rule there.
    """
    if "paper" in options:
        return str(options["paper"])
    for paper in PAPERS:
        # Not each path: a clone may lie in a folder of that name.
        rule = rf"(^|\s)(\w+_)?{paper}(_\w+)?(:|\s|$)"
        place = rf"(^|/)(config|results)/{paper}/"
        if any(re.search(f"{rule}|{place}", argument) for argument in arguments):
            return paper
    return None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which later layers win; sections are merged, lists are not."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                result[key] = merged(old, value)
            else:
                result[key] = merged(value) if isinstance(value, Mapping) else value
    return result


def find_shipped(paper: str, name: str) -> Path:
    """Return a file of a paper: where the workflow runs, else in this checkout."""
    path = Path("config") / paper / name
    found = [p for p in (path, CHECKOUT / path) if p.is_file()]
    if not found:
        raise PhantomscopeError(
            f"there is no {path}, neither here nor in {CHECKOUT}",
            where=path,
            fix="run in a clone of Phantomscope, or give --configfile",
        )
    return found[0]


def _read(options: Mapping[str, Any], where: str) -> Paper:
    try:
        return Paper.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(part) for part in first["loc"] if part != "[key]"]
        key = ".".join(location)
        if first["type"] == "extra_forbidden":
            raise PhantomscopeError(
                f"unknown option `{key}` of a paper",
                where=where,
                fix=f"{suggestion(location[-1], list(Paper.model_fields))}; options of "
                "an experiment stand under `common` or below a part",
            ) from error
        raise PhantomscopeError(
            f"bad value of `{key}`: {first['msg'].removeprefix('Value error, ')}",
            where=where,
            fix=f"compare with config/{next(iter(PAPERS))}/smoke.yaml",
        ) from error


def load_paper(paper: str, options: Mapping[str, Any], where: str) -> Paper:
    """Read a paper's config.

    Parameters
    ----------
    paper : str
        Name of the paper.
    options : Mapping
        What the workflow was given. Without the key ``paper``, the shipped file of the
        ``scale`` (``paper`` by default) is taken, and these options replace its own.
    where : str
        File to name in an error.

    Raises
    ------
    PhantomscopeError
        For unknown keys or bad values.
    """
    if "paper" not in options:
        path = find_shipped(paper, f"{options.get('scale', 'paper')}.yaml")
        options, where = merged(read_yaml(path), options), str(path)
    return _read(options, where)


def _preset(name: str, presets: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a preset, over those of the one that it extends."""
    if name not in presets:
        raise PhantomscopeError(
            f"there is no preset {name!r}",
            where=where,
            fix=suggestion(name, list(presets)),
        )
    own = dict(presets[name] or {})
    base = own.pop("extends", None)
    if base is None:
        return own
    # Only a preset that stands before it: none can extend itself.
    before = dict(list(presets.items())[: list(presets).index(name)])
    return merged(_preset(str(base), before, where), own)


def parts_of(paper: Paper, where: str) -> list[Part]:
    """Return the experiments of a paper, checked.

    Later layers win: the preset, then ``common``, then the part.

    Raises
    ------
    PhantomscopeError
        For an unknown preset or bad options of a part.
    """
    presets = read_yaml(find_shipped(paper.paper, "presets.yaml"))
    parts: list[Part] = []
    paired: dict[str, str] = {}
    for preset in paper.presets:
        known = _preset(preset, presets, f"{where}: presets")
        for name, own in paper.parts.items():
            options = merged(
                {"scale": paper.scale},
                known,
                paper.common,
                own or {},
                {"experiment": f"{paper.name}/{preset}/{name}"},
            )
            title = f"{where}: {name}, preset {preset}"
            config = make_config(options, title)
            if config.translate.methods and config.translate.plates.plates:
                # Plates are large: presets that want the same of them share it.
                wish = [sections(config, "seed", *PAIRING), config.translate.plates]
                first = paired.setdefault(str(wish), config.name)
                if first != config.name:
                    other = {"pairs_from": f"results/{first}"}
                    options = merged(options, {"translate": other})
                    config = make_config(options, title)
            parts.append(Part(name, preset, options, config))
    return parts
