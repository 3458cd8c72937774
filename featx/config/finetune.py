"""The section finetune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from featx.config.bounds import Count, Ge, Interval, Lt, Positive
from featx.config.option import Also, option
from featx.config.texts import DeviceChoice, MemoryShare
from featx.config.training import Monitor, TrainingOptions

CheckpointKind = Literal["none", "best", "all"]
BatchNorm = Literal["frozen", "train"]
MixedPrecision = Literal["none", "auto", "float16", "bfloat16"]


@dataclass(frozen=True)
class FinetuneOptions(TrainingOptions):
    """How backbone and head are trained end to end."""

    trained: ClassVar[str] = "the fine-tune"

    enabled: bool = option(True, "Whether 'featx run' fine-tunes.")
    unfreeze: Annotated[str, Also(int)] = option(
        "all",
        "What trains beside the head: all, none, a layer or block (it and all above), or a number of layers.",
        metavar="all|LAYER|BLOCK|N|none",
    )
    from_cache: str | None = option(
        None,
        "Train only what is above this layer, on its outputs in the cache; it and the layers below never run again.",
        metavar="LAYER",
    )
    gradual: Annotated[int, Ge(0)] = option(
        0,
        "Begin with the head; every N epochs one more block from the top joins in (0: all at once).",
        metavar="N",
    )
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = option(
        1.0, "Learning rate of a block as a share of that of the one above it."
    )
    batch_norm: BatchNorm = option("frozen", "Whether batch normalisation keeps its statistics.")
    weight_decay: Annotated[float, Ge(0)] = option(0.0, "Decay of kernels, decoupled from the gradient as in AdamW.")
    class_weight: str | None = option(
        None, "none, balanced, or a weight for some classes (default: as the head was fitted).", metavar="NAME=W,..."
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = option(
        0.0, "The part of every target that is spread evenly over the classes."
    )
    mixup: Annotated[float, Ge(0)] = option(
        0.0, "Train on means of two images: alpha of the distribution of their weights (0: off).", metavar="ALPHA"
    )
    cutmix: Annotated[float, Ge(0)] = option(
        0.0, "Train on images with a box of another: alpha of the distribution of its area (0: off).", metavar="ALPHA"
    )
    downscale: Count = option(
        1, "Read images N times as large, and learn how they are scaled down to the backbone's size.", metavar="N"
    )
    mixed_precision: MixedPrecision = option(
        "none", "Arithmetic of the backbone while it trains (auto: what the GPU is fast at)."
    )
    devices: Annotated[DeviceChoice, Also(int)] = option(
        DeviceChoice("1"), "GPUs that share each batch; cpu uses none.", metavar="all|N|cpu"
    )
    gpu_memory: Annotated[MemoryShare, Also(float)] = option(
        MemoryShare("grow"), "Share of the GPU's memory to take at most, or as needed.", metavar="SHARE|grow"
    )
    checkpoints: CheckpointKind = option(
        "none", "Keep the whole network of the best or of every epoch as .keras, in checkpoints/ beside the report."
    )
    regraft: bool = option(
        False, "Where the head is not a network: fit logistic regression on its features, and start from that."
    )
    learning_rate: Positive = option(1e-4, "Learning rate of {trained}, where --schedule begins.")
    epochs: Count = option(5, "How often every training image is seen, at most.")
    batch_size: Count = option(32, "Images per step.")
    monitor: Monitor = option(
        "val_accuracy", "What decides which epoch of {trained} is the best; its weights are kept."
    )
