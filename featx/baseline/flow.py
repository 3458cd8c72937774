"""Baseline: train a small network from scratch on the images of a run, to show what a backbone is worth.

It is trained by the loop of all networks (`featx.training`), so it resumes exactly, and becomes one more bundle of the
run: what is before its last layer as the backbone, the last layer as the head.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

from featx.baseline.material import Material, read_material
from featx.baseline.networks import DESIGNS, Design, make_network
from featx.baseline.result import FinishedBaseline
from featx.config import BaselineOptions, Pipeline
from featx.io.context import Context, Notify
from featx.io.digests import digest_bytes, digest_json
from featx.io.progress import Progress
from featx.runs.origin import Provenance, algorithm
from featx.runs.run import Run
from featx.runs.trained import Trained
from featx.store.cache import Cache
from featx.training.callbacks import Recording
from featx.training.loop import train
from featx.training.network import Network, make_optimizer
from featx.training.schedules import Schedule, Stopping
from featx.training.trainee import ImageTrainee

__all__ = ["DESIGNS", "Design", "train_baseline"]


_ALGORITHM = 1  # of the networks and their training: raised when equal options begin to give another network
_STATE = 1  # of what a training resumes from: raised when a state that was written before can no longer be gone on from


def train_baseline(pipeline: Pipeline, cache: Cache, context: Context = Context()) -> Trained:
    """Train the network of the pipeline's baseline section, and keep its best epoch by validation.

    Raises
    ------
    DataError
        No labels, several per image, a single class, nothing that can be read, or no val part.
    HeadError
        A loss that is not finite.
    """
    start = time.perf_counter()
    options, seed = pipeline.baseline, pipeline.data.seed
    material = read_material(pipeline, cache, context.progress)
    wanted = _fingerprint(material, options, seed)
    trainee = _start(material, options, seed, context.progress)
    recording = _recording(wanted, options, material.run, context.notify)
    log = train(trainee, Schedule.of(options), Stopping.of(options), recording, seed)
    provenance = Provenance(context.command, wanted, time.perf_counter() - start)
    return FinishedBaseline(material, pipeline, trainee, log).trained(provenance, recording)


def _start(material: Material, options: BaselineOptions, seed: int, progress: Progress) -> ImageTrainee:
    """The network as it stands before its first step, and what it is trained on."""
    examples = material.examples
    model = make_network(options.net, options.input_size, examples.known, options.dropout, seed)
    optimizer = make_optimizer(options.optimizer, options.learning_rate, options.momentum)
    network = Network(model, optimizer, examples.targets, inner=model.get_layer("dropout").input)
    return ImageTrainee(network, material.source, options, seed, progress)


def _fingerprint(material: Material, options: BaselineOptions, seed: int) -> str:
    """What the weights depend on."""
    sample = material.intake.sample
    return digest_json(
        {
            "baseline": asdict(replace(options, tensorboard=None)),
            "resize": material.source.resize,
            "augment": material.source.augmenter.identity,
            "split": sample.digest,
            "rows": digest_bytes(sample.digests.tobytes()).hex(),  # their order is that of the training
            "weight": digest_bytes(material.examples.targets.weight.tobytes()).hex(),
            "seed": seed,
            "featx": algorithm(_ALGORITHM, options.schedule),
        }
    )


def _recording(wanted: str, options: BaselineOptions, run: Run, notify: Notify) -> Recording:
    state = wanted if _STATE == 1 else digest_json([wanted, _STATE])
    curves = None if options.tensorboard is None else Path(options.tensorboard) / run.name / f"baseline-{state[:12]}"
    return Recording(run.training_state("baseline", state), curves, notify=notify, epochs=options.epochs)
