"""Fine-tune: backbone + head as one Keras model, trained end to end from where the head stands.

Before its first step the model gives the predictions of the bundle it comes from. The order of the images and every
random number are functions of (seed, epoch), and weights, optimizer and training log are kept after every epoch, so an
interrupted run goes on as if nothing had happened; Keras' own BackupAndRestore does not.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

from featx.bundle.bundle import Bundle
from featx.config import AugmentOptions, FinetuneOptions, MemoryShare
from featx.finetune.examples import image_source
from featx.finetune.from_cache import MapSource, part_above
from featx.finetune.grafting import GRAFTABLE, graft, graft_onto, is_graftable, load_backbone, require_graftable
from featx.finetune.result import FinishedFinetune
from featx.finetune.trainee import FinetuneTrainee
from featx.finetune.unseen import leave_out_seen
from featx.finetune.untrained import Untrained
from featx.images.augment import Augmenter
from featx.inference.decision import DecisionRule, predict_parts
from featx.io.context import Context, Notify
from featx.io.digests import digest_json
from featx.runs.origin import Provenance, algorithm, weighed_mark
from featx.runs.prepared import Prepared
from featx.runs.run import checkpoints_folder
from featx.runs.trained import Trained
from featx.training.callbacks import ModelCheckpoints, Recording
from featx.training.devices import choose_devices
from featx.training.loop import train
from featx.training.schedules import Schedule, Stopping
from featx.training.source import Source

__all__ = [
    "GRAFTABLE",
    "finetune",
    "graft",
    "is_graftable",
    "require_graftable",
    "tuned_fingerprint",
]

_ALGORITHM = 1  # of training and calibrating: raised when equal options begin to give another network
_STATE = 1  # of what a training resumes from: raised when a state that was written before can no longer be gone on from


def tuned_fingerprint(bundle: Bundle, options: FinetuneOptions, seed: int, policy: AugmentOptions | None = None) -> str:
    """What a fine-tuned bundle depends on."""
    given = asdict(replace(options, tensorboard=None, preset=None, gpu_memory=MemoryShare("grow")))
    views = {"augment": Augmenter(policy, seed).identity} if policy is not None and policy.operations else {}
    if policy is not None and options.from_cache is not None and policy.views:
        views["views"] = str(policy.views)
    head = bundle.manifest.head
    weight = head.class_weight if options.class_weight is None else options.class_weight
    views |= weighed_mark(weight, head.positive_weight)
    made = algorithm(_ALGORITHM, options.schedule)
    return digest_json(views | {"from": bundle.manifest.digest, "options": given, "seed": seed, "featx": made})


def finetune(bundle: Bundle, prepared: Prepared, context: Context = Context()) -> Trained:
    """Train a bundle's network end to end, and keep the best epoch by validation.

    Raises
    ------
    BundleError
        A head that cannot be grafted.
    DataError
        No validation part, without which no epoch could be chosen, or none that the bundle was not trained on.
    HeadError
        A loss that is not finite.
    UsageError, BackboneError
        Where only what is above a layer is to be trained: a layer that the network has not, or cannot be cut at.
    """
    start = time.perf_counter()
    options, seed = prepared.pipeline.finetune, prepared.pipeline.data.seed
    require_graftable(bundle)
    prepared, notes = leave_out_seen(bundle, prepared)
    for note in notes:
        context.notify(note)
    trainee, backbone = _start(bundle, prepared, context)
    # measured again: the bundle's own figures may be of other images, where the split has grown
    before = predict_parts(trainee, DecisionRule.of(bundle))
    wanted = tuned_fingerprint(bundle, options, seed, prepared.pipeline.augment)
    recording = _recording(wanted, prepared, context.notify)
    trainee.compute_in(trainee.precision)
    log = train(trainee, Schedule.of(options), Stopping.of(options), recording, seed)
    trainee.compute_in("float32")
    provenance = Provenance(context.command, wanted, time.perf_counter() - start)
    return FinishedFinetune(bundle, prepared, trainee, backbone, before, log, notes).trained(provenance, recording)


def _start(bundle: Bundle, prepared: Prepared, context: Context) -> tuple[FinetuneTrainee, Untrained]:
    """The network before its first step and what it is trained on, and its backbone as it was loaded."""
    context.progress("prepare the network", 0, 0)
    options, seed = prepared.pipeline.finetune, prepared.pipeline.data.seed
    source: Source = image_source(bundle, prepared)
    devices = choose_devices(options.devices)
    with devices.scope():
        backbone = load_backbone(bundle, options.downscale)
        untrained, model = Untrained(backbone), graft_onto(backbone, bundle)
    if options.from_cache is not None:
        model = part_above(model, bundle, options.from_cache, options.unfreeze)
        source = MapSource(bundle, prepared, options.from_cache, context.progress)
    trainee = FinetuneTrainee(model, source, options, seed, context.progress, devices)
    if trainee.unfreezing.epochs_until_all >= options.epochs:
        context.notify(
            f"With --gradual {options.gradual}, all of --unfreeze {options.unfreeze} trains from epoch "
            f"{trainee.unfreezing.epochs_until_all + 1} on, and there are {options.epochs}."
        )
    return trainee, untrained


def _recording(wanted: str, prepared: Prepared, notify: Notify) -> Recording:
    """How it is recorded; other images or labels do not resume a training."""
    options, run = prepared.pipeline.finetune, prepared.run
    state = [wanted, prepared.sample.digest]
    digest = digest_json(state if _STATE == 1 else [*state, _STATE])
    curves = None if options.tensorboard is None else Path(options.tensorboard) / run.name / f"finetune-{digest[:12]}"
    folder = run.training_state("finetune", digest)
    models = ModelCheckpoints(checkpoints_folder(folder), options.checkpoints)
    return Recording(folder, curves, None if models.kind == "none" else models, notify, options.epochs)
