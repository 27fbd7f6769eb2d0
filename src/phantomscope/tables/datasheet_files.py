"""The files that describe a published set: for people, and for a repository."""

from __future__ import annotations

import re
from html import escape
from importlib import resources
from typing import Any

from phantomscope.tables.datasheet import PAPERS, Content

_DOI = re.compile(r"10\.\d{4,9}/[^\s;,]+")


def markdown(content: Content) -> str:
    """Write the datasheet for people."""
    import jinja2

    source = resources.files("phantomscope.tables").joinpath("datasheet.md.jinja")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["yaml"] = _yaml
    return environment.from_string(source.read_text(encoding="utf-8")).render(content)


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=None, width=88
    )
    return text.rstrip("\n")


def deposit(content: Content) -> Content:
    """Describe the set in the form of `.zenodo.json`, which repositories take.

    See https://developers.zenodo.org/#deposit-metadata.
    """
    made, source = content["composition"], content["source"]
    kind = "volumes" if made["dims"] == 3 else "images"
    paragraphs = [
        content["description"],
        f"{made['images']:,} synthetic microscopy {kind} with {made['objects']:,} "
        f"labelled objects, made by a diffusion model that learnt the appearance of "
        f"{source['name']} without annotation, from simulated labels. The datasheet "
        "says how, and what the set is not good for.",
    ]
    related = [
        {"identifier": doi, "relation": "cites", "resource_type": "publication-article"}
        for doi in PAPERS
    ]
    related += [
        {"identifier": doi.rstrip("."), "relation": "isDerivedFrom"}
        for doi in dict.fromkeys(_DOI.findall(source["citation"]))
    ]
    people = [
        {key: value for key, value in creator.items() if value}
        for creator in content["creators"]
    ]
    cited = [source["citation"]] if source["citation"] else []
    return {
        "title": content["title"],
        "upload_type": "dataset",
        "description": "".join(f"<p>{escape(text)}</p>" for text in paragraphs if text),
        "creators": people,
        "access_right": "open",
        "license": content["licence"],
        "keywords": content["keywords"],
        "version": content["version"],
        "language": "eng",
        "notes": content["licence_note"],
        "references": [*cited, *content["citations"]],
        "related_identifiers": related,
    }
