"""Fine-tune: backbone + head as one Keras model, trained end to end from where the head stands.

Before its first step the model gives the predictions of the bundle it comes from. The order of the images and every
random number are functions of (seed, epoch), and weights, optimizer and training log are kept after every epoch, so an
interrupted run goes on as if nothing had happened; Keras' own BackupAndRestore does not.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import featx
from featx.bundle.bundle import Bundle
from featx.config import AugmentOptions, FinetuneOptions, MemoryShare
from featx.finetune.examples import image_source
from featx.finetune.from_cache import MapSource, part_above
from featx.finetune.grafting import GRAFTABLE, graft, is_graftable, require_graftable
from featx.finetune.result import Reading, judge_parts, save_tuned
from featx.finetune.tuning import Tuning
from featx.images.augment import Augmenter
from featx.io.digests import digest_json
from featx.io.progress import Progress, Tell, no_progress, say_nothing
from featx.training.callbacks import ModelCheckpoints, Recording
from featx.training.devices import choose_devices
from featx.training.loop import train
from featx.training.schedules import Schedule, Stopping
from featx.training.source import Source

if TYPE_CHECKING:
    from featx.extraction.prepared import Prepared

__all__ = [
    "CHECKPOINTS",
    "GRAFTABLE",
    "finetune",
    "graft",
    "is_graftable",
    "tuned_fingerprint",
]

CHECKPOINTS = "checkpoints"  # in a bundle's directory; not one of its files, which are read whenever it is loaded


def tuned_fingerprint(bundle: Bundle, options: FinetuneOptions, seed: int, policy: AugmentOptions | None = None) -> str:
    """What a fine-tuned bundle depends on."""
    said = asdict(replace(options, tensorboard=None, preset=None, gpu_memory=MemoryShare("grow")))
    views = {"augment": Augmenter(policy, seed).identity} if policy is not None and policy.operations else {}
    if policy is not None and options.from_cache is not None and policy.views:
        views["views"] = str(policy.views)
    return digest_json(
        views | {"from": bundle.about["digest"], "options": said, "seed": seed, "featx": featx.__version__}
    )


def finetune(
    bundle: Bundle,
    prepared: Prepared,
    command: str = "",
    progress: Progress = no_progress,
    tell: Tell = say_nothing,
) -> Bundle:
    """Train a bundle's network end to end, keep the best epoch by validation, and save it as one more bundle.

    Raises
    ------
    BundleError
        A head that cannot be grafted.
    DataError
        No validation part, without which no epoch could be chosen.
    HeadError
        A loss that is not finite.
    UsageError, BackboneError
        Where only what is above a layer is to be trained: a layer that the network has not, or cannot be cut at.
    """
    start = time.perf_counter()
    options, seed = prepared.pipeline.finetune, prepared.pipeline.data.seed
    require_graftable(bundle)
    source: Source = image_source(bundle, prepared)
    devices = choose_devices(options.devices)
    with devices.scope():
        model = graft(bundle, options.downscale)
    if options.from_cache is not None:
        model = part_above(model, bundle, options.from_cache, options.unfreeze)
        source = MapSource(bundle, prepared, options.from_cache, progress)
    tuning = Tuning(model, source, options, seed, progress, devices)
    if tuning.unfreezing.epochs_until_all >= options.epochs:
        tell(
            f"With --gradual {options.gradual}, all of --unfreeze {options.unfreeze} trains from epoch "
            f"{tuning.unfreezing.epochs_until_all + 1} on, and there are {options.epochs}."
        )
    # measured again: the bundle's own figures may be of other images, where the split has grown
    before = judge_parts(tuning, Reading.of(bundle))
    wanted = tuned_fingerprint(bundle, options, seed, prepared.pipeline.augment)
    recording = _recording(digest_json([wanted, prepared.sample.digest]), options, prepared.run, tell)
    tuning.compute_in(tuning.precision)
    log = train(tuning, Schedule.of(options), Stopping.of(options), recording, seed)
    tuning.compute_in("float32")
    seconds = time.perf_counter() - start
    found = save_tuned(bundle, prepared, tuning, before, log, command, wanted, seconds)
    if recording.models is not None and recording.models.folder.exists():
        recording.models.folder.rename(found.path / CHECKPOINTS)
    recording.discard_state()
    return found


def _recording(state: str, options: FinetuneOptions, run: Path, tell: Tell) -> Recording:
    """How it is recorded; other images or labels do not resume a training."""
    curves = None if options.tensorboard is None else Path(options.tensorboard) / run.name / f"finetune-{state[:12]}"
    folder = run / f".finetune-{state[:12]}"
    models = None if options.checkpoints == "none" else ModelCheckpoints(folder / CHECKPOINTS, options.checkpoints)
    return Recording(folder, curves, models, tell, options.epochs)
