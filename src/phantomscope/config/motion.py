"""Options of a time series: how cells move, grow and divide from frame to frame."""

from __future__ import annotations

from phantomscope.config.option import Section, option


class Motion(Section):
    """What happens to a cell between two frames."""

    speed: float = option(
        2.0,
        "Root mean square of a cell's step per frame; in volumes in px of y.",
        unit="px",
        ge=0,
        le=1000,
    )
    persistence: float = option(
        0.7,
        "Correlation of a step with the one before it: 0 is Brownian motion, towards 1 "
        "cells go straight on (a persistent random walk).",
        ge=0,
        lt=1,
    )
    turning: float = option(
        5.0,
        "Standard deviation of a nucleus's turn in the plane per frame.",
        unit="degrees",
        ge=0,
        le=180,
    )
    division: float = option(
        0.01,
        "Chance per frame that a full-grown cell divides, if its daughters find room.",
        ge=0,
        le=1,
    )
    regrowth: int = option(
        20,
        "In how many frames a daughter, which begins with half of the area (in volumes "
        "of the volume), becomes as large as its mother was; 0: it stays small, as in "
        "an embryo.",
        unit="frames",
        ge=0,
        le=100_000,
    )
