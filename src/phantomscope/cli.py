"""The command line: `init`, `config`, `plan`, `verify` and every stage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from phantomscope import __version__
from phantomscope.config.load import load_config, make_config, read_yaml
from phantomscope.config.papers import load_paper, parts_of
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.sharding import resolved, training_processes
from phantomscope.stages.arguments import arguments, summary
from phantomscope.stages.perform import exit_status, perform
from phantomscope.stages.registry import STAGES


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "init", help="look at a folder of images and write a config for it"
    )
    parser.add_argument("folder", type=Path, help="folder of TIFF or PNG images")
    parser.add_argument(
        "--output", type=Path, default=Path("config/mine.yaml"),
        help="config to write (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite it")


def _add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "config", help="check a config, or write the generated reference"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", type=Path, metavar="FILE", help="check a config file")
    what.add_argument(
        "--write", action="store_true", help="write default YAML, schema, README"
    )
    what.add_argument(
        "--sync", action="store_true", help="check that the generated files are current"
    )
    what.add_argument("--show", action="store_true", help="print the defaults")


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "verify", help="compare results with their provenance records",
        description="Compare everything in a folder of results with its provenance "
        "records: files, pixels, and whether each was made from what is there now.",
    )  # fmt: skip
    parser.add_argument("results", type=Path, help="folder, such as results/demo")
    parser.add_argument(
        "--quick", action="store_true", help="do not read the pixels of images"
    )


def _command(stage: str) -> str:
    """Return the name of a stage on the command line."""
    return stage.replace("_", "-")


def _add_stages(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], names: Iterable[str]
) -> None:
    for name in names:
        function = STAGES[name]
        parser = commands.add_parser(
            _command(name),
            help=summary(function),
            description=summary(function),
        )
        parser.set_defaults(stage=name)
        parser.add_argument(
            "--config", type=Path, help="config file (default: the demo)"
        )
        for argument in arguments(function):
            parser.add_argument(
                "--" + argument.name.replace("_", "-"),
                dest=argument.name,
                type=argument.kind,
                nargs="+" if argument.many else None,
                required=argument.required,
                default=None if argument.required else argument.default,
                metavar="PATH"
                if argument.kind is Path
                else argument.kind.__name__.upper(),
            )


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from phantomscope.planning.command import add_arguments

    add_arguments(
        commands.add_parser(
            "plan", help="estimate jobs, time, memory and disk of a config"
        )
    )


def make_parser(stages: Iterable[str] = STAGES) -> argparse.ArgumentParser:
    """Build the parser, with these stages: each brings the libraries of its module."""
    parser = argparse.ArgumentParser(prog="phantomscope", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_init(commands)
    _add_config(commands)
    _add_plan(commands)
    _add_verify(commands)
    _add_stages(commands, stages)
    return parser


def _init(options: argparse.Namespace) -> None:
    from phantomscope.acquire.inspect import inspect_folder, write_config

    report = inspect_folder(options.folder)
    print(write_config(report, options.output, force=options.force))


def _config(options: argparse.Namespace) -> None:
    from phantomscope.config import docs

    if options.check:
        given, where = read_yaml(options.check), str(options.check)
        if "paper" in given:
            paper = load_paper(str(given["paper"]), given, where)
            names = [part.config.name for part in parts_of(paper, where)]
        else:
            names = [make_config(given, where).name]
        print(f"{options.check} is fine: {', '.join(names)}")
    elif options.show:
        print(docs.default_yaml(), end="")
    elif options.write:
        docs.write_generated(Path.cwd())
    elif problems := docs.check_generated(Path.cwd()):
        raise PhantomscopeError(
            "generated files are not current:\n" + "\n".join(problems),
            fix="run `make config`",
        )


def _plan(options: argparse.Namespace) -> None:
    from phantomscope.planning.command import run

    print(run(options))


def _verify(options: argparse.Namespace) -> None:
    from phantomscope.verify import verify

    report = verify(options.results, quick=options.quick)
    print(report.render(), flush=True)
    if not report.ok:
        raise PhantomscopeError(
            "these results are not what their records say",
            where=options.results,
            fix="mend each of the problems above",
        )


def _stage(options: argparse.Namespace) -> None:
    function = STAGES[options.stage]
    config = load_config(options.config) if options.config else make_config({})
    config = resolved(config)
    keywords = {a.name: getattr(options, a.name) for a in arguments(function)}
    # Nobody else assigns GPUs here; on a CPU several processes need none.
    gpus = training_processes(config, options.stage)
    wanted = None if gpus == 1 or config.train.device == "cpu" else gpus
    perform(function, config, keywords, config.model_dump(mode="json"), gpus=wanted)


# Commands that do without the stages.
LIGHT = {"init": _init, "config": _config, "plan": _plan, "verify": _verify}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    known: dict[str, Iterable[str]] = dict.fromkeys(("--version", *LIGHT), ())
    known |= {_command(stage): (stage,) for stage in STAGES}
    stages = known.get(argv[0], STAGES) if argv else STAGES
    options = make_parser(stages).parse_args(argv)
    command = LIGHT.get(options.command, _stage)
    return exit_status(lambda: command(options), "the command line")
