"""Baseline: a small network that is trained from scratch on the images of a run, to tell what a backbone is worth.

It is trained by the loop of all networks (`featx.training`), so it resumes exactly, and becomes one more bundle of the
run: what is before its last layer as the backbone, the last layer as the head.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import featx
from featx.baseline.material import Material, read_material
from featx.baseline.networks import DESIGNS, Design, make_network
from featx.baseline.result import renew_report, save_baseline
from featx.baseline.trainee import Scratch
from featx.bundle.bundle import Bundle
from featx.config import BaselineOptions, Pipeline
from featx.io.digests import digest_bytes, digest_json
from featx.io.progress import Progress, Tell, no_progress, say_nothing
from featx.store.cache import Cache
from featx.training.callbacks import Recording
from featx.training.loop import train
from featx.training.schedules import Schedule, Stopping
from featx.workflow.tracking import require_tracker

__all__ = ["DESIGNS", "Design", "train_baseline"]


def train_baseline(
    pipeline: Pipeline,
    cache: Cache,
    command: str = "",
    progress: Progress = no_progress,
    tell: Tell = say_nothing,
) -> tuple[Bundle, Material]:
    """Train the network of the pipeline's baseline section, keep its best epoch by validation, and save it.

    The report of the run's best head is written anew where its features are cached, and tells of the baseline.

    Raises
    ------
    DataError
        No labels, several per image, a single class, nothing that can be read, or no val part.
    HeadError
        A loss that is not finite.
    """
    start = time.perf_counter()
    require_tracker(pipeline.tracking)
    options, seed = pipeline.baseline, pipeline.data.seed
    material = read_material(pipeline, cache, progress)
    wanted = _fingerprint(material, options, pipeline)
    model = make_network(options.net, options.input_size, material.examples.known, options.dropout, seed)
    scratch = Scratch(model, material, options, seed, progress)
    recording = _recording(wanted, options, material.run, tell)
    log = train(scratch, Schedule.of(options), Stopping.of(options), recording, seed)
    bundle = save_baseline(scratch, log, pipeline, command, wanted, start)
    recording.discard_state()
    renew_report(scratch, pipeline, cache, command, tell)
    return bundle, material


def _fingerprint(material: Material, options: BaselineOptions, pipeline: Pipeline) -> str:
    """What the weights depend on."""
    sample = material.sample
    return digest_json(
        {
            "baseline": asdict(replace(options, tensorboard=None)),
            "resize": material.source.resize,
            "augment": material.source.augmenter.identity,
            "split": sample.digest,
            "rows": digest_bytes(sample.digests.tobytes()).hex(),  # their order is that of the training
            "weight": digest_bytes(material.examples.targets.weight.tobytes()).hex(),
            "seed": pipeline.data.seed,
            "featx": featx.__version__,
        }
    )


def _recording(state: str, options: BaselineOptions, run: Path, tell: Tell) -> Recording:
    curves = None if options.tensorboard is None else Path(options.tensorboard) / run.name / f"baseline-{state[:12]}"
    return Recording(run / f".baseline-{state[:12]}", curves, notify=tell, epochs=options.epochs)
