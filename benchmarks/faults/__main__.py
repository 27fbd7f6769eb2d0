"""`python -m benchmarks.faults`: inject all faults and print a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.faults import FAULTS, KINDS, injected, table


def main() -> int:
    """Inject faults and print a table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__
    )
    parser.add_argument("--times", type=int, default=1, help="hits of each fault")
    parser.add_argument("--kind", choices=KINDS, help="only faults of this kind")
    parser.add_argument("--fault", help="only faults whose name contains this")
    options = parser.parse_args()
    chosen = [
        fault for fault in FAULTS
        if options.kind in (None, fault.kind) and (options.fault or "") in fault.name
    ]  # fmt: skip
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in injected(Path(folder), options.times, chosen):
            outcomes.append(outcome)
            print(f"{outcome.fault.name}: {outcome.times} injected, "
                  f"{outcome.recovered} recovered, {outcome.equal} equal; "
                  f"{outcome.note}", file=sys.stderr)  # fmt: skip
    print(table(outcomes))
    return int(not all(outcome.ok for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
