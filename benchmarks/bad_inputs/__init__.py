"""Bad input: each case must get one clear error, and leave nothing half-written.

A case builds its bad input in a folder of its own and says which command to run on it
and what the message must name: the file or key, and the mend.
"""

from __future__ import annotations

from benchmarks.bad_inputs.cases import CASES, answered
from benchmarks.bad_inputs.controls import CONTROLS
from benchmarks.bad_inputs.model import Answer, Case, check

__all__ = ["CASES", "CONTROLS", "Answer", "Case", "answered", "check"]
