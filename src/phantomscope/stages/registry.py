"""All stages by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable

from phantomscope.stages import (
    analysis,
    appearance,
    checking,
    data,
    diffusion,
    localising,
    papers,
    populations,
    pseudo,
    publish,
    realism,
    restoration,
    synthesis,
)

_FUNCTIONS: tuple[Callable[..., None], ...] = (
    data.download,
    data.acquire,
    data.prepare,
    data.fit_sketch,
    data.simulate,
    data.photograph,
    localising.simulate_tables,
    pseudo.pseudo_sketches,
    diffusion.train_diffusion,
    diffusion.choose_start,
    diffusion.distil,
    synthesis.synthesise,
    checking.check,
    checking.gather,
    publish.publish,
    realism.measure_realism,
    populations.measure_populations,
    appearance.measure_forward,
    appearance.measure_backward,
    analysis.train_segmenter,
    analysis.predict,
    analysis.evaluate,
    restoration.make_pairs,
    restoration.train_restorer,
    restoration.restore,
    restoration.evaluate_restoration,
    restoration.tabulate_restoration,
    analysis.write_config,
    analysis.tabulate,
    analysis.draw_figures,
    analysis.report,
    papers.tabulate_paper,
    papers.draw_paper,
)
STAGES = {function.__name__: function for function in _FUNCTIONS}
