"""What options of tiles have to keep, wherever they occur."""

from __future__ import annotations

from typing import Any


def check_overlaps(section: Any) -> None:
    """Refuse tiles that their overlaps fill; a `ValueError` says which.

    Parameters
    ----------
    section : Section
        With `tile`, `overlap`, `tile_depth` and `overlap_depth`, px.
    """
    for tile, overlap in (("tile", "overlap"), ("tile_depth", "overlap_depth")):
        side, border = getattr(section, tile), getattr(section, overlap)
        if side <= 2 * border:
            raise ValueError(
                f"`{tile}` ({side}) must be more than twice `{overlap}` "
                f"({border}): nothing would be left between the borders"
            )
