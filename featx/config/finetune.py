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

    enabled: bool = option(True, "Fine-tune in 'featx run'.")
    unfreeze: Annotated[str, Also(int)] = option(
        "all",
        "Part that trains along with the head: all, none, a layer or block (and all above it), or a number of layers.",
        metavar="all|LAYER|BLOCK|N|none",
    )
    from_cache: str | None = option(
        None,
        "Train only what is above this layer, on its cached outputs; the layer and those below never run again.",
        metavar="LAYER",
    )
    gradual: Annotated[int, Ge(0)] = option(
        0,
        "Start with the head alone and unfreeze one more block, from the top, every N epochs (0: all at once).",
        metavar="N",
    )
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = option(
        1.0, "Learning rate of each block, as a share of the rate of the block above it."
    )
    batch_norm: BatchNorm = option(
        "frozen", "frozen keeps the pretrained statistics of batch normalisation; train updates them."
    )
    weight_decay: Annotated[float, Ge(0)] = option(
        0.0, "Weight decay of kernels, decoupled from the gradient as in AdamW."
    )
    class_weight: str | None = option(
        None, "none, balanced, or a weight for some classes (default: as the head was fitted).", metavar="NAME=W,..."
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = option(
        0.0, "Label smoothing: share of every target that is spread evenly over the classes."
    )
    mixup: Annotated[float, Ge(0)] = option(
        0.0, "Mixup: alpha of the Beta distribution of the mixing weights (0: off).", metavar="ALPHA"
    )
    cutmix: Annotated[float, Ge(0)] = option(
        0.0, "CutMix: alpha of the Beta distribution of the pasted area (0: off).", metavar="ALPHA"
    )
    downscale: Count = option(
        1, "Read images N times larger and learn how to scale them down to the backbone's size.", metavar="N"
    )
    mixed_precision: MixedPrecision = option(
        "none", "Precision of the backbone's arithmetic while it trains (auto: the fastest on the GPU)."
    )
    devices: Annotated[DeviceChoice, Also(int)] = option(
        DeviceChoice("1"), "GPUs that share each batch: all, a number of them, or cpu for none.", metavar="all|N|cpu"
    )
    gpu_memory: Annotated[MemoryShare, Also(float)] = option(
        MemoryShare("grow"),
        "Largest share of the GPU's memory to use, or grow to take it as needed.",
        metavar="SHARE|grow",
    )
    checkpoints: CheckpointKind = option(
        "none",
        "Keep the whole network of the best or of every epoch as .keras files in checkpoints/ beside the report.",
    )
    regraft: bool = option(
        False, "If the head is not a network, fit logistic regression on its features and start from that."
    )
    learning_rate: Positive = option(1e-4, "Learning rate of {trained}, where --schedule begins.")
    epochs: Count = option(5, "Most passes over the training images.")
    batch_size: Count = option(32, "Images per step.")
    monitor: Monitor = option(
        "val_accuracy", "Quantity that decides which epoch of {trained} is best; its weights are kept."
    )
