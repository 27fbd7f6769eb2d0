"""The versions in `envs/`, `requirements.lock` and `pyproject.toml` agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = dict(PROJECT["optional-dependencies"])
# Extras of few users, which the lock does without.
BESIDE = {
    name: [Requirement(line) for line in EXTRAS.pop(name)]
    for name in ("bench", "detection")
}

# Ranges instead of pins; the comment in the file says why.
NOT_PINNED = {("cellpose", "numpy")}


def _lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines)


LOCK = _lock()


def _environment(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def _pip(path: Path) -> list[Requirement]:
    """Return what pip installs into an environment."""
    entries = _environment(path)["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return [Requirement(line) for line in pip]


def test_the_lock_is_a_sorted_list_of_exact_versions() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert names == [canonicalize_name(name) for name in names]
    # A local version, such as +cpu, installs on one kind of machine only.
    assert all("+" not in version for version in LOCK.values())


@pytest.mark.parametrize(
    "requirement",
    [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)],
)
def test_lock_satisfies_every_dependency(requirement: str) -> None:
    wanted = Requirement(requirement)
    name = canonicalize_name(wanted.name)
    assert name in LOCK, f"add {name} to requirements.lock"
    assert wanted.specifier.contains(LOCK[name]), f"{name}=={LOCK[name]}"


@pytest.mark.parametrize("extra", BESIDE)
def test_what_few_need_is_pinned_beside_the_lock(extra: str) -> None:
    """Peers of the benchmark, and detectors as rivals."""
    pins = _pins(BESIDE[extra])
    assert all(pin.startswith("==") for pin in pins.values())
    assert not pins.keys() & LOCK.keys()
    # torchvision 0.x goes with torch 2.(x - 15) alone, and would replace another.
    torch, vision = Version(LOCK["torch"]), Version(pins["torchvision"][2:])
    assert (torch.major, torch.minor) == (2, vision.minor - 15)


def _pins(requirements: list[Requirement]) -> dict[str, str]:
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def test_there_is_one_environment_per_tool_family() -> None:
    assert {path.stem for path in ENVS} == {
        "phantomscope", "cellpose", "stardist", "care", "detection",
    }  # fmt: skip


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_pins_are_those_of_the_lock(path: Path) -> None:
    requirements = _pip(path)
    assert len({r.name for r in requirements}) == len(requirements)
    beside = _pins(BESIDE[path.stem]) if path.stem in BESIDE else {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name in beside:
            assert str(requirement.specifier) == beside[name]
            continue
        assert name in LOCK, f"add {name} to requirements.lock"
        if (path.stem, name) in NOT_PINNED:
            assert requirement.specifier.contains(LOCK[name])
        else:
            assert str(requirement.specifier) == f"=={LOCK[name]}", name


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_environment_holds_what_the_library_needs(path: Path) -> None:
    installed = {canonicalize_name(r.name) for r in _pip(path)}
    needed = {
        canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]
    }
    assert needed <= installed


@pytest.mark.parametrize(
    ("name", "tools"),
    [
        ("phantomscope", {"stardist", "matplotlib", "jinja2", "pillow"}),
        ("cellpose", {"cellpose"}),
        ("stardist", {"stardist", "csbdeep", "tensorflow-cpu"}),
        ("care", {"csbdeep", "tensorflow-cpu"}),
        ("detection", {"torchvision"}),
    ],
)
def test_environment_holds_its_tools(name: str, tools: set[str]) -> None:
    installed = {
        canonicalize_name(r.name) for r in _pip(ROOT / "envs" / f"{name}.yaml")
    }
    assert tools <= installed


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_conda_part(path: Path) -> None:
    content = _environment(path)
    assert content["name"].startswith("phantomscope")
    assert content["channels"] == ["conda-forge", "nodefaults"]
    conda = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    assert conda == ["python=3.11", "pip"]
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11")


def _commands(path: Path) -> list[str]:
    """Lines of a container recipe without comments, joined where they go on."""
    text = path.read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith("#")]  # fmt: skip


RECIPES = [ROOT / "envs/Dockerfile", ROOT / "envs/apptainer.def"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_containers_install_the_lock_as_the_makefile_does(path: Path) -> None:
    commands = _commands(path)
    text = " ".join(commands).replace(" --no-cache-dir", "")
    makefile = (ROOT / "Makefile").read_text()
    for step in (
        "--no-deps -r requirements.lock",
        "--no-deps --no-build-isolation -e .",
    ):
        assert f"pip install {step}" in text
        assert step in makefile
    assert "$(grep '^torch==' requirements.lock)" in text
    # One place has the versions: the lock.
    assert not re.search(r"[\w.]==\d", text)
    (base,) = [c.split()[-1] for c in commands if c.lower().startswith("from")]
    assert base == "python:3.11-slim-bookworm"
    conda = _environment(ROOT / "envs/phantomscope.yaml")["dependencies"]
    assert "python=3.11" in conda


def test_containers_take_what_a_run_needs() -> None:
    text = (ROOT / "envs/apptainer.def").read_text()
    files = re.search(r"%files\n(.*?)\n\n", text, re.S)
    assert files is not None
    copied = {line.split()[0] for line in files[1].splitlines()}
    assert copied >= {"Snakefile", "workflow", "scripts", "config", "envs", "src"}
    assert all((ROOT / name).exists() for name in copied)
    ignored = set((ROOT / ".dockerignore").read_text().split())
    assert not ignored & copied
    assert ".git" in ignored
