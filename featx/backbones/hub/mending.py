"""KerasHub's layers, mended where they cannot be saved, opened or filled one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from featx.backbones.runtime import KerasConfig, KerasLayer, KerasTensor, import_keras

Named = Any  # whatever has `keys`: a mapping, or a file of safetensors
_BARE = ("vit.", "deit.")  # what transformers leaves out where a network was saved without its classifier


@cache
def mend_layers() -> None:
    """Let every layer that featx saves be read back as it was.

    The layers of ViT and DeiT write numbers into their configuration that they do not take back, and leave others out.
    DINOv2's embedding writes trained positions only where the sum of their changes is positive. SigLIP's counts a
    class token that it does not have; CLIP's gives every place of a new network position 0. Swin's write classes that
    cannot be written. The converters of ViT and DeiT know the names of classifiers alone.
    """
    from keras_hub.src.models.clip.clip_layers import CLIPVisionEmbedding
    from keras_hub.src.models.deit import deit_layers
    from keras_hub.src.models.dinov2.dinov2_layers import DINOV2Embedding
    from keras_hub.src.models.siglip.siglip_layers import SigLIPVisionEmbedding
    from keras_hub.src.models.vit import vit_layers
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    DINOV2Embedding._is_interpolated_position_embeddings_updated = lambda _: True
    SigLIPVisionEmbedding.compute_output_shape = _siglip_shape
    _number_positions(CLIPVisionEmbedding)
    for kind in (
        vit_layers.ViTPatchingAndEmbedding,
        vit_layers.ViTEncoderBlock,
        deit_layers.DeiTEmbeddings,
        deit_layers.DeiTEncoderBlock,
    ):
        _write_what_is_read(kind)
    _give_one_output(deit_layers)
    _write_names_of_classes()
    SafetensorLoader.get_prefixed_key = _also_bare(SafetensorLoader.get_prefixed_key)


def _siglip_shape(layer: KerasLayer, images: Sequence[int | None]) -> list[int | None]:
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    height, width = (images[axis] for axis in axes)
    known = height is not None and width is not None
    tokens = (height // layer.patch_size) * (width // layer.patch_size) if known else None
    return [images[0], tokens, layer.hidden_dim]


def _number_positions(kind: Any) -> None:
    made = kind.build

    def build(layer: KerasLayer, shape: Sequence[int | None]) -> None:
        made(layer, shape)
        layer.position_ids.assign(np.arange(layer.num_positions)[None])

    kind.build = build


def _write_what_is_read(kind: Any) -> None:
    """Give a class of layers a `get_config` that has the parameters of its constructor, and no more."""
    written = kind.get_config
    parameters = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}

    def get_config(layer: KerasLayer) -> KerasConfig:
        own = {name: getattr(layer, name) for name in parameters if hasattr(layer, name)}
        config = own | written(layer)
        return {name: value for name, value in config.items() if name in parameters | {"name", "trainable", "dtype"}}

    kind.get_config = get_config


def _give_one_output(deit: Any) -> None:
    """Let DeiT's blocks give their tokens alone, and not attention scores that nobody asked for beside them."""
    block, encoder = deit.DeiTEncoderBlock, deit.DeiTEncoder
    both = block.call
    block.call = lambda layer, tokens: both(layer, tokens)[0]

    def call(layer: KerasLayer, tokens: KerasTensor) -> tuple[KerasTensor, ...]:
        for one in layer.encoder_layers:
            tokens = one(tokens)
        return (layer.layer_norm(tokens),) * 3  # whose last two are scores and states

    encoder.call = call


def _write_names_of_classes() -> None:
    """Let Swin's layers write the names of the classes that they are made with."""
    from keras_hub.src.models.swin_transformer import swin_transformer_layers as swin

    layers = import_keras().layers
    for kind in (swin.PatchEmbedding, swin.SwinTransformerStage):
        kind.build = _build_inner
    _take_masks_quietly(swin.WindowAttention)
    _name_class(swin.PatchEmbedding, "norm_layer", "norm", layers.LayerNormalization)
    _name_class(swin.SwinTransformerStage, "downsample", "downsample", swin.PatchMerging)


def _take_masks_quietly(kind: Any) -> None:
    """Let Swin's attention, whose mask is one of windows and ends there, not warn that it destroys one."""
    made = kind.__init__

    def __init__(layer: KerasLayer, *args: object, **options: object) -> None:  # noqa: N807 - takes its place
        made(layer, *args, **options)
        layer.supports_masking = True

    __init__.__signature__ = inspect.signature(made)  # type: ignore[attr-defined]
    kind.__init__ = __init__
    kind.compute_mask = lambda *_: None


def _build_inner(layer: KerasLayer, shape: Sequence[int | None]) -> None:
    """Build the layers inside by a call on a tensor without values."""
    keras = import_keras()
    keras.Operation.compute_output_spec(layer, keras.KerasTensor(tuple(shape)))


def _name_class(kind: Any, option: str, attribute: str, value: type) -> None:
    """Option : of the constructor; attribute : what the layer made with it, or None; value : the one class there is."""
    written, held = kind.get_config, {"PatchEmbedding": "norm_layer", "SwinTransformerStage": "_downsample_cls"}

    def get_config(layer: KerasLayer) -> KerasConfig:
        name = held[kind.__name__]
        kept = getattr(layer, name)
        setattr(layer, name, None)
        try:
            config = written(layer)
        finally:
            setattr(layer, name, kept)
        return config | {option: getattr(layer, attribute) is not None}

    kind.get_config = get_config
    kind.from_config = classmethod(
        lambda own, config: own(**(config | {option: value if config.get(option) else None}))
    )


def _also_bare(
    find: Callable[[Any, str, Named], str],
) -> Callable[[Any, str, Named], str]:
    def get_prefixed_key(loader: Any, name: str, known: Named) -> str:
        bare = next((name.removeprefix(start) for start in _BARE if name.startswith(start)), name)
        names = set(known.keys())
        return bare if bare in names and name not in names else find(loader, name, known)

    return get_prefixed_key
