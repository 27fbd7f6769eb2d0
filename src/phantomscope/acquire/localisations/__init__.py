"""Readers of localisation tables, one for each format."""

from phantomscope.acquire.localisations.read import (
    localisation_chunks,
    read_localisations,
)

__all__ = ["localisation_chunks", "read_localisations"]
