"""The command `phantomscope verify`."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import tifffile
from benchmarks.laboratory import ENVIRONMENT
from tests.verifying import (
    change_pixel,
    told,
)

from phantomscope.cli import main
from phantomscope.images.files import read_array
from phantomscope.verify import verify

# The command.


def test_the_command_says_all_is_well(finished, capsys):
    assert main(["verify", str(finished)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["stage", "records", "files", "images"]
    assert lines[1].split() == ["acquire", "1", "2", "1", "ok"]
    assert lines[-1] == f"{finished}: all as recorded"
    assert main(["verify", str(finished), "--quick"]) == 0
    assert "pixels were not compared" in capsys.readouterr().out


def test_the_command_names_each_problem_and_fails(results, capsys):
    change_pixel(results / "images/images/nuclei.ome.tif")
    (results / "config.yaml").unlink()
    assert main(["verify", str(results)]) == 1
    shown = capsys.readouterr()
    for name in ("images/images/nuclei.ome.tif", "config.yaml"):
        assert f"  where: {results / name}\n  mend:  " in shown.out
    assert f"{results}: problems: 2" in shown.out
    assert "Traceback" not in shown.out + shown.err
    assert "mend each of the problems above" in shown.err


def test_many_problems_are_counted_not_listed(results, capsys):
    shutil.rmtree(results / "sketches/shard-000/images")
    for number in range(150):
        (results / f"extra-{number}").touch()
    main(["verify", str(results)])
    shown = capsys.readouterr().out
    assert shown.count("no record and no manifest") == 100
    assert "... and 50 more of these" in shown
    assert shown.count("manifest.csv names it") == 3


def test_the_command_explains_itself_and_needs_no_torch(finished):
    code = (
        "import sys; from phantomscope.cli import main; status = main(sys.argv[1:]); "
        "print(*({'torch', 'pandas'} & set(sys.modules)), sep=','); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "verify"]
    for argument in (str(finished), "--help"):
        process = subprocess.run(
            [*command, argument], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        if argument == "--help":
            assert "--quick" in process.stdout
        else:
            assert process.stdout.splitlines()[-1] == ""


def test_labels_are_compared_as_strictly_as_images(results):
    """The same numbers as another type are other labels."""
    path = results / "sketches/shard-000/labels/sketch-000000.ome.tif"
    tifffile.imwrite(path, read_array(path).astype(np.uint32))
    assert list(told(verify(results))) == [str(path.relative_to(results))]
