"""`python -m benchmarks.bad_inputs`: run all cases, print a table by kind."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.bad_inputs import answered, by_kind


def main() -> int:
    """Run all cases and print a table by kind; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        answers = answered(Path(folder))
    print(f"{'kind':<20}{'answered':>10}{'skipped':>10}")
    for kind, good, asked, skipped in by_kind(answers):
        print(f"{kind:<20}{f'{good}/{asked}':>10}{skipped:>10}")
    for answer in answers:
        if not answer.ok:
            print(f"{answer.name}: {answer.why_not}\n{answer.message}")
    return int(any(not a.ok and not a.skipped for a in answers))


if __name__ == "__main__":
    sys.exit(main())
