"""The three kinds of experiments, and what each makes the workflow do."""

from __future__ import annotations

from phantomscope.config.model import Config
from phantomscope.planning.filtering import filter_works
from phantomscope.planning.sources import Images
from phantomscope.planning.translation import translation_works
from phantomscope.planning.work import Work, works


def all_works(config: Config, images: Images) -> list[Work]:
    """List the work of a config, in the order of the workflow.

    Parameters
    ----------
    config : Config
        With a number of shards; see `resolved`.
    images : Images
        The source images.
    """
    if config.translate.methods:
        return translation_works(config, images)
    if config.filter.methods:
        return filter_works(config, images)
    return works(config, images)


def described(config: Config) -> str:
    """Say in a few words what a config makes."""
    if config.translate.methods:
        return f"stains by {', '.join(config.translate.methods)}"
    if config.filter.methods:
        return (
            f"{', '.join(config.filter.targets)} told apart by "
            f"{', '.join(config.filter.methods)}"
        )
    size = " x ".join(map(str, config.simulate.size))
    return (
        f"{config.simulate.images:,} synthetic images of {size} px in "
        f"{config.simulate.shards:,} shards"
    )
