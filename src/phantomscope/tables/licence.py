"""What the licence of source images allows to be done with what was made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from phantomscope.errors import PhantomscopeError

Verdict = Literal["free", "forbidden", "unknown"]

# Creative Commons licences and a few others, by the words that people write.
_PLAIN = {
    r"cc[- ]?0|cc[- ]?zero|public[- ]domain": "CC0-1.0",
    r"pddl": "PDDL-1.0",
    r"odc[- ]by": "ODC-By-1.0",
    r"bsd[- ]3": "BSD-3-Clause",
    r"bsd[- ]2": "BSD-2-Clause",
    # Not the institute.
    r"^mit$|\bmit[- ]licen": "MIT",
    r"apache": "Apache-2.0",
}
_FORBIDDEN = re.compile(
    r"\bnd\b|no[- ]?deriv|all rights reserved|not? (be )?(re)?distribut|no sharing|"
    r"confidential|proprietary"
)
_CREATIVE = re.compile(r"cc[- ]by((?:[- ](?:nc|sa|nd))*)(?:[- ]v?(\d(?:\.\d)?))?")


@dataclass(frozen=True)
class Terms:
    """What a licence says, as far as its name tells.

    Attributes
    ----------
    verdict : str
        ``free``: derived data may be shared; ``forbidden``; ``unknown``.
    spdx : str
        Name in the SPDX list for derived data under the same terms; may be empty.
    """

    verdict: Verdict
    spdx: str = ""


def read_terms(text: str) -> Terms:
    """Read what somebody wrote as the licence of some images.

    Examples
    --------
    >>> read_terms("CC BY-NC 4.0")
    Terms(verdict='free', spdx='CC-BY-NC-4.0')
    >>> read_terms("CC BY-ND 4.0").verdict, read_terms("ask me").verdict
    ('forbidden', 'unknown')
    """
    plain = re.sub(r"[\s_-]+", " ", text.lower()).strip()
    if _FORBIDDEN.search(plain):
        return Terms("forbidden")
    if found := _CREATIVE.search(plain):
        # Earlier ones let derived work take a later version.
        version = found[2] or "4.0"
        version += "" if "." in version else ".0"
        kind = "".join(f"-{word.upper()}" for word in found[1].split())
        return Terms("free", f"CC-BY{kind}-{version}")
    for pattern, spdx in _PLAIN.items():
        if re.search(pattern, plain):
            return Terms("free", spdx)
    return Terms("unknown")


def choose_licence(source: str, wanted: str | None) -> str:
    """Return the licence of a synthetic set, by its SPDX name.

    Parameters
    ----------
    source : str
        Licence of the images it was learnt from; may be empty.
    wanted : str, optional
        Option ``publish.licence``: what the publisher decided.

    Raises
    ------
    PhantomscopeError
        If the source's licence is unknown or forbids it, and nobody decided.
    """
    if wanted is not None:
        return wanted
    terms = read_terms(source)
    if terms.verdict == "free":
        return terms.spdx
    stated = f"“{source}”" if source else "not recorded"
    forbids = terms.verdict == "forbidden"
    raise PhantomscopeError(
        f"the licence of the source images is {stated}: it "
        + ("forbids to share" if forbids else "does not say that anybody may share")
        + " what is made of them",
        where="publish.licence",
        fix="ask whoever owns the images; then name the licence that you may give",
        example="publish:\n  licence: CC-BY-4.0",
    )


def licence_note(source: str, chosen: str, wanted: str | None) -> str:
    """Say in a sentence how the licence of a synthetic set came about."""
    terms = read_terms(source)
    if wanted is None:
        return f"That of the source images ({source}), under the same terms."
    if terms.verdict == "free" and terms.spdx == chosen:
        return f"The same as that of the source images ({source})."
    stated = source or "not recorded"
    return (
        f"Chosen by the publisher; the licence of the source images is: {stated}. "
        "Nobody checked that the one permits the other."
    )
