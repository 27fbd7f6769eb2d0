"""The command line, the glue to rules, and progress."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from phantomscope import __version__
from phantomscope.cli import main
from phantomscope.config.load import make_config, sections
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.progress import Progress, clock
from phantomscope.provenance import load
from phantomscope.stages import data, rule
from phantomscope.stages.arguments import Output, arguments, convert, summary
from phantomscope.stages.registry import STAGES


@pytest.mark.parametrize("name", sorted(STAGES))
def test_each_stage_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name.replace("_", "-"), "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--config" in shown
    assert summary(STAGES[name]).split()[0] in shown
    for argument in arguments(STAGES[name]):
        assert "--" + argument.name.replace("_", "-") in shown


def test_version_and_unknown_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert __version__ in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["simulat"])
    assert stopped.value.code == 2


def test_init_and_config_check(tmp_path, capsys):
    import numpy as np
    from skimage.io import imsave

    images = tmp_path / "my images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        noise = rng.integers(0, 255, (64, 64)).astype(np.uint8)
        imsave(images / f"{n}.png", noise, check_contrast=False)
    target = tmp_path / "mine.yaml"
    assert main(["init", str(images), "--output", str(target)]) == 0
    assert "5 images" in capsys.readouterr().out
    assert main(["config", "--check", str(target)]) == 0
    assert "is fine" in capsys.readouterr().out
    assert main(["init", str(images), "--output", str(target)]) == 1
    assert "error:" in capsys.readouterr().err


def test_config_show_and_sync(capsys, monkeypatch, root, tmp_path):
    assert main(["config", "--show"]) == 0
    assert "source:" in capsys.readouterr().out
    monkeypatch.chdir(root)
    assert main(["config", "--sync"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--sync"]) == 1
    assert "make config" in capsys.readouterr().err
    assert main(["config", "--write"]) == 0
    assert (tmp_path / "config/README.md").exists()


def test_an_error_of_a_stage_is_one_message(capsys, tmp_path):
    code = main(["simulate", "--sketch", str(tmp_path / "no.yaml"), "--sketches", "x"])
    assert code == 1
    shown = capsys.readouterr().err
    assert "no.yaml" in shown
    assert "Traceback" not in shown


def test_a_fault_of_ours_shows_a_traceback(capsys, monkeypatch):
    def broken(config, *, images: Path) -> None:
        """Break."""
        raise ZeroDivisionError

    monkeypatch.setattr(data, "acquire", broken)
    assert main(["acquire", "--images", "x"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "please report it" in shown


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def stopped(config, *, images: Path) -> None:
        """Stop."""
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "acquire", stopped)
    assert main(["acquire", "--images", "x"]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_module_runs(root):
    found = subprocess.run(
        [sys.executable, "-m", "phantomscope", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == __version__


class Snakemake(SimpleNamespace):
    """What a script gets from Snakemake."""


class Named(dict):
    """Inputs and the like: items by name, also as attributes."""

    __getattr__ = dict.__getitem__


def job(tmp_path, **changes):
    values = {
        "rule": "example",
        "input": Named(),
        "output": Named(),
        "params": Named(config={"seed": 4, "train": {"steps": 3}}),
        "wildcards": Named(),
        "log": [str(tmp_path / "logs/example.log")],
        "resources": {"gpu": 0},
        "config": {"train": {"checkpoint_every": 9}},
    }
    return Snakemake(**(values | changes))


def example(
    config, *, images: list[Path], result: Output, shard: int = 0,
    folder: Path | None = None,
):  # fmt: skip
    """Show what arrived."""
    print(config.seed, config.train.steps, config.train.checkpoint_every)
    print(images, shard, folder)
    result.write_text("done")


def ending(monkeypatch):
    codes = []
    monkeypatch.setattr(rule, "stop", codes.append)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    return codes


def test_rule_maps_names_to_keywords(tmp_path, monkeypatch):
    codes = ending(monkeypatch)
    (tmp_path / "a").write_text("input")
    given = job(
        tmp_path, input=Named(images=str(tmp_path / "a")),
        output=Named(result=str(tmp_path / "b")), wildcards=Named(shard="002"),
    )  # fmt: skip
    rule.run(given, example)
    assert codes[-1] == 0
    record = load(tmp_path / "b.provenance.json")
    assert (record.stage, record.arguments) == ("example", {"shard": 2})
    log = (tmp_path / "logs/example.log").read_text()
    assert log.splitlines()[0] == "4 3 9"
    assert "2 None" in log


def test_rule_reports_errors_in_its_log(tmp_path, monkeypatch):
    codes = ending(monkeypatch)
    rule.run(job(tmp_path), example)
    assert codes[0] == 1
    assert "does not say `images`" in (tmp_path / "logs/example.log").read_text()

    def broken(config):
        raise ZeroDivisionError

    rule.run(job(tmp_path), broken)
    assert 1 in codes
    assert "ZeroDivisionError" in (tmp_path / "logs/example.log").read_text()


def test_converted_values():
    found = {a.name: a for a in arguments(example)}
    assert convert(found["images"], ["a", "b"]) == [Path("a"), Path("b")]
    assert convert(found["images"], "a") == [Path("a")]
    assert convert(found["shard"], "003") == 3
    assert convert(found["folder"], None) is None
    assert found["images"].required
    assert not found["folder"].required


def test_sections_leave_out_what_does_not_shape_the_result():
    config = make_config({"train": {"checkpoint_every": 5}})
    found = sections(config, "train", "segment.stardist", "segment.threads", "seed")
    assert "checkpoint_every" not in found["train"]
    assert set(found["segment"]) == {"stardist", "threads"}
    assert found["seed"] == 0


def test_clock():
    assert clock(59.6) == "1:00"
    assert clock(3661) == "1:01:01"


@pytest.mark.parametrize("live", [True, False])
def test_progress_tells_rate_and_time_left(live):
    stream = io.StringIO()
    stream.isatty = lambda: live
    with Progress("work", 4, unit="images", per_step=2, stream=stream) as progress:
        progress._begin -= 20
        progress._shown -= 20
        progress.advance(2, note="fine")
    text = stream.getvalue()
    assert "work: 2/4 (50%)" in text
    assert "images/s" in text
    assert "left" in text
    assert "fine" in text
    assert ("\r" in text) == live


def test_resumed_progress_does_not_count_old_steps():
    progress = Progress("work", 100, start=90, stream=io.StringIO())
    progress._begin -= 10
    progress.advance()
    assert progress.rate == pytest.approx(0.1, rel=0.01)


def test_os_errors_are_explained(tmp_path):
    with pytest.raises(PhantomscopeError, match="no such file") as caught:
        with explain_os_errors(tmp_path):
            (tmp_path / "missing").read_bytes()
    assert "missing" in str(caught.value)
    with pytest.raises(PhantomscopeError, match="disk is full"):
        with explain_os_errors(tmp_path):
            raise OSError(28, "No space left on device")


def test_error_shows_where_mend_and_example():
    error = PhantomscopeError("it broke", where="a.yaml", fix="mend it", example="a: 1")
    assert str(error).splitlines() == [
        "error: it broke", "  where: a.yaml", "  mend:  mend it", "  example:",
        "    a: 1",
    ]  # fmt: skip
