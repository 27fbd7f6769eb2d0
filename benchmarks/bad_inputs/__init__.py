"""Bad input: each case must get one clear error, and leave nothing half-written.

A case builds its bad input in a folder of its own and says which command to run on it
(or which function to call) and what the message must name: the file or key, and the
mend. What runs code that an input carries is found by a canary.
"""

from __future__ import annotations

from benchmarks.bad_inputs.cases import CASES, answered
from benchmarks.bad_inputs.controls import CONTROLS
from benchmarks.bad_inputs.model import Answer, Case, check
from benchmarks.bad_inputs.summary import by_kind, markdown

__all__ = [
    "CASES", "CONTROLS", "Answer", "Case", "answered", "by_kind", "check", "markdown",
]  # fmt: skip
