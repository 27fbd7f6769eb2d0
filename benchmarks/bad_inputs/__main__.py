"""`python -m benchmarks.bad_inputs`: run all cases, print a table by kind."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.bad_inputs import answered


def main() -> int:
    """Run all cases and print a table by kind; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        answers = answered(Path(folder))
    print(f"{'kind':<20}{'answered':>10}{'skipped':>10}")
    for kind in dict.fromkeys(answer.kind for answer in answers):
        some = [a for a in answers if a.kind == kind]
        asked = [a for a in some if not a.skipped]
        good = sum(a.ok for a in asked)
        print(f"{kind:<20}{f'{good}/{len(asked)}':>10}{len(some) - len(asked):>10}")
    for answer in answers:
        if not answer.ok:
            print(f"{answer.name}: {answer.why_not}\n{answer.message}")
    return int(any(not a.ok and not a.skipped for a in answers))


if __name__ == "__main__":
    sys.exit(main())
