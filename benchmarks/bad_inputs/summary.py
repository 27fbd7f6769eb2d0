"""How many bad inputs of each kind were answered well."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bad_inputs.model import Answer


def by_kind(answers: Sequence[Answer]) -> list[tuple[str, int, int, int]]:
    """Count the answers of each kind, in the order of the kinds.

    Returns
    -------
    list of (kind, good, asked, skipped)
        `asked` leaves out what could not be set up on this machine (`skipped`).
    """
    rows = []
    for kind in dict.fromkeys(answer.kind for answer in answers):
        some = [answer for answer in answers if answer.kind == kind]
        asked = [answer for answer in some if not answer.skipped]
        good = sum(answer.ok for answer in asked)
        rows.append((kind, good, len(asked), len(some) - len(asked)))
    return rows


def markdown(answers: Sequence[Answer]) -> str:
    """Return the table by kind, and what was not answered well, as Markdown."""
    rows = by_kind(answers)
    total = tuple(sum(row[i] for row in rows) for i in (1, 2, 3))
    lines = [
        "# Bad inputs",
        "",
        "Answered: one error that says what is wrong, where (file or key) and how to "
        "mend it; no traceback, no output changed or begun, no code of the input run, "
        "within a minute. Skipped: cannot be set up without the rights to mount.",
        "",
        "| kind | answered | asked | skipped |",
        "|---|---|---|---|",
        *(f"| {' | '.join(map(str, row))} |" for row in [*rows, ("all", *total)]),
        "",
    ]
    for answer in answers:
        if not (answer.ok or answer.skipped):
            lines.append(f"- `{answer.name}` ({answer.kind}): {answer.why_not}")
    return "\n".join(lines).rstrip() + "\n"
