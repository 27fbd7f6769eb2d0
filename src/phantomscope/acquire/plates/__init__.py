"""Cell Painting plates, and local fields of several channels, to image sets."""

from phantomscope.acquire.plates.fetch import fetch_plates
from phantomscope.acquire.plates.fields import acquire_fields
from phantomscope.acquire.plates.images import EXCLUDED, acquire_plates, excluded_of
from phantomscope.acquire.plates.sides import assert_apart
from phantomscope.acquire.plates.sites import Site, estimate, list_sites, shard_sites
from phantomscope.acquire.plates.survey import survey_plates

__all__ = [
    "EXCLUDED",
    "Site",
    "acquire_fields",
    "acquire_plates",
    "assert_apart",
    "estimate",
    "excluded_of",
    "fetch_plates",
    "list_sites",
    "shard_sites",
    "survey_plates",
]
