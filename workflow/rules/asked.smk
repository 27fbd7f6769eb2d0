# What is asked for: one experiment, or a paper with its parts.
import sys
from pathlib import Path

# A clone needs no installation of the package itself. The path is that of this file,
# so that it also holds when another workflow imports this one as a module.
SOURCE = Path(str(workflow.current_basedir)).resolve().parent.parent / "src"
if SOURCE.exists():
    sys.path.insert(0, str(SOURCE))

from phantomscope.clocks import bring_to_present
from phantomscope.config.papers import asked_paper, load_paper, parts_of
from phantomscope.errors import PhantomscopeError
from phantomscope.locks import attend
from phantomscope.planning.command import estimate
from phantomscope.planning.requests import render_requests

CONFIG_FILES = ", ".join(map(str, workflow.configfiles)) or "--config"
PAPER_NAME = asked_paper(config, sys.argv)
try:
    PAPER = load_paper(PAPER_NAME, config, CONFIG_FILES) if PAPER_NAME else None
    PARTS = parts_of(PAPER, CONFIG_FILES) if PAPER else []
except PhantomscopeError as error:
    # One clear message: a WorkflowError would point to this line, not to the config.
    raise SystemExit(str(error)) from None
if PAPER:
    # Its parts have configs of their own; the rules of one experiment keep defaults.
    config.clear()
