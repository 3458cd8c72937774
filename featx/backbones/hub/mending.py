"""Fixes for KerasHub layers that cannot be saved, opened or loaded variable by variable."""

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
    cannot be written. The converters of ViT and DeiT know the names of classifiers alone. That of HGNetV2 takes the
    affine blocks of B0 to B3 for those of networks that were not distilled, and their one number for another shape.
    That of MobileNetV5 computes GELU where timm's network approximates it by tanh, which is 1 % of its features.
    """
    from keras_hub.src.models.clip.clip_layers import CLIPVisionEmbedding
    from keras_hub.src.models.deit import deit_layers
    from keras_hub.src.models.dinov2.dinov2_layers import DINOV2Embedding
    from keras_hub.src.models.siglip.siglip_layers import SigLIPVisionEmbedding
    from keras_hub.src.models.vit import vit_layers
    from keras_hub.src.utils.timm import convert_hgnetv2, convert_mobilenetv5
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
    convert_hgnetv2._use_learnable_affine_block = _has_affine_blocks
    convert_mobilenetv5.convert_backbone_config = _approximate_gelu(convert_mobilenetv5.convert_backbone_config)
    SafetensorLoader.port_weight = _also_one_number(SafetensorLoader.port_weight)
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


def _has_affine_blocks(content: Named) -> bool:
    """Whether a network of timm's HGNetV2 has them, as timm makes it."""
    return str(content["architecture"])[-2:] in {"b0", "b1", "b2", "b3"}


def _approximate_gelu(convert: Callable[[Named], KerasConfig]) -> Callable[[Named], KerasConfig]:
    from keras_hub.src.utils.keras_utils import gelu_approximate

    tanh = import_keras().saving.serialize_keras_object(gelu_approximate)

    def convert_backbone_config(content: Named) -> KerasConfig:
        config = convert(content)
        names = [[tanh if name == "gelu" else name for name in stage] for stage in config["stackwise_act_layers"]]
        return config | {"act_layer": tanh, "stackwise_act_layers": names}

    return convert_backbone_config


def _also_one_number(port: Callable[..., None]) -> Callable[..., None]:
    """Port : of a file of safetensors, the values of one of its arrays into a variable."""

    def port_weight(
        loader: Any, keras_variable: Any, hf_weight_key: str, hook_fn: Callable[..., np.ndarray] | None = None
    ) -> None:
        if hook_fn is None and keras_variable.shape == ():
            hook_fn = _as_scalar
        port(loader, keras_variable, hf_weight_key, hook_fn)

    return port_weight


def _as_scalar(values: np.ndarray, _: object) -> np.ndarray:
    return np.reshape(values, ())
