"""The dry run of a comparison, pass by pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from featx.backbones import resolve
from featx.comparing.cells import choose_outputs
from featx.comparing.plan import Pass, name_of, plan
from featx.config import Pipeline
from featx.dataset import read_data
from featx.errors import FeatxError
from featx.extraction.sample import require_fittable
from featx.io.context import Context
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.forecast import DryRun, PlannedStep, extraction_steps, free_bytes, head_step, tuning_step
from featx.workflow.gather import plan_all

_logger = logging.getLogger(__name__)


def forecast_compare(pipeline: Pipeline, cache: Cache, context: Context) -> DryRun:
    """What `featx compare` would do; models that are there already are made by no step of it.

    Raises
    ------
    UsageError
        What `featx.comparing.plan.plan` raises. A pass that would fail is a step that says why.
    """
    steps = [step for one in plan(pipeline) for step in _steps(one, cache, context)]
    folder = Path(pipeline.report.runs) / name_of(pipeline)
    return DryRun(tuple(steps), str(folder), free_bytes(Path(pipeline.features.cache)))


def _steps(one: Pass, cache: Cache, context: Context) -> Iterator[PlannedStep]:
    network = Path(one.pipeline.features.backbone).name
    try:
        images = read_data(one.pipeline)
        require_fittable(images)
        outputs, _ = choose_outputs(one.pipeline, resolve(one.pipeline.features), cache.index)
        features = replace(one.pipeline.features, layer=tuple(output.name for output in outputs), pooling=())
        passed = replace(one.pipeline, features=features)
        planned = plan_all(passed, cache, context)
        yield from extraction_steps(planned, f"{one.data}, {network}: ")
    except FeatxError as error:  # as in the comparison, the other passes go on
        _logger.info("%s", one.data, exc_info=error)
        yield PlannedStep("extract", f"{one.data}, {network}: fails: {error}", 0.0, 0)
        return
    run = Run.of(passed, images)
    there, count = len(run.bundles()), planned.images.unique
    known = f" ({there} there already; those made alike are kept)" if there else ""
    for made in one.combinations:
        for output in outputs:
            place = f"{one.data}, {network}, {output.name}: "
            head = head_step(made.pipeline, run, count)
            yield replace(head, what=f"{place}{head.what}{known}")
            if made.stage != "head":
                tune = tuning_step(made.pipeline, run, count)
                yield replace(tune, what=f"{place}{tune.what}")
