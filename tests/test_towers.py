"""Folders of Hugging Face and timm that came later: CLIP, SigLIP, DeiT, Swin, DINOv3, VGG and ResNet of timm.

The references compute in NumPy and SciPy by the names of the weights in the files, or are KerasHub's own network whose
weights were written under those names.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras_hub")
pytest.importorskip("safetensors")

import test_hugging_face as vit
from hubs import make_network, run_blocks

from featx.backbones import Output, identify, open_network, resolve
from featx.config import FeaturesOptions
from featx.errors import BackboneError
from featx.heads.persist import load_network
from featx.store.cache import Cache

HIDDEN, HEADS, INNER, PATCH, SIDE, LAYERS = 24, 2, 40, 14, 56, 2
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
VALUES = (PIXELS / 255 - np.array(MEAN)) / np.array(STD)
Weights = dict[str, np.ndarray]
_erf = np.vectorize(math.erf)


def write(folder: Path, config: dict[str, Any], weights: Weights) -> None:
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()},
              folder / "model.safetensors")  # fmt: skip
    text = {"size": {"height": SIDE, "width": SIDE}, "image_mean": MEAN, "image_std": STD, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(text))


def features(folder: Path, *layers: str, side: int = SIDE, pixels: np.ndarray = PIXELS) -> list[np.ndarray]:
    spec = resolve(FeaturesOptions(backbone=str(folder), input_size=side))
    found = open_network(spec).cut([Output(layer, "none") for layer in layers])
    given = found(pixels.astype(np.float32), training=False)
    return [np.asarray(given[f"{layer}@none"]) for layer in layers]


def drawn(shapes: dict[str, tuple[int, ...]]) -> Weights:
    random = np.random.default_rng(11)
    return {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def tower_shapes(kind: str) -> dict[str, tuple[int, ...]]:
    root, patches = "vision_model", (SIDE // PATCH) ** 2
    shapes = {
        f"{root}.embeddings.patch_embedding.weight": (HIDDEN, 3, PATCH, PATCH),
        f"{root}.embeddings.position_embedding.weight": (patches + (kind == "clip"), HIDDEN),
        f"{root}.post_layernorm.weight": (HIDDEN,),
        f"{root}.post_layernorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        name = f"{root}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{name}.self_attn.{part}", HIDDEN, HIDDEN)
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{name}.{norm}.weight": (HIDDEN,), f"{name}.{norm}.bias": (HIDDEN,)}
        shapes |= linear(f"{name}.mlp.fc1", INNER, HIDDEN) | linear(f"{name}.mlp.fc2", HIDDEN, INNER)
    if kind == "clip":
        shapes |= {f"{root}.embeddings.class_embedding": (HIDDEN,), f"{root}.pre_layrnorm.weight": (HIDDEN,),
                   f"{root}.pre_layrnorm.bias": (HIDDEN,)}  # fmt: skip
        return shapes
    head = f"{root}.head"
    shapes |= {f"{root}.embeddings.patch_embedding.bias": (HIDDEN,), f"{head}.probe": (1, 1, HIDDEN),
               f"{head}.attention.in_proj_weight": (3 * HIDDEN, HIDDEN),
               f"{head}.attention.in_proj_bias": (3 * HIDDEN,), f"{head}.layernorm.weight": (HIDDEN,),
               f"{head}.layernorm.bias": (HIDDEN,)}  # fmt: skip
    return (
        shapes
        | linear(f"{head}.attention.out_proj", HIDDEN, HIDDEN)
        | linear(f"{head}.mlp.fc1", INNER, HIDDEN)
        | linear(f"{head}.mlp.fc2", HIDDEN, INNER)
    )


def dense(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, values: np.ndarray, eps: float) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    query, key, value = (
        one.reshape(len(one), -1, HEADS, HIDDEN // HEADS).transpose(0, 2, 1, 3) for one in (query, key, value)
    )
    scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(HIDDEN / HEADS)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
    return mixed.transpose(0, 2, 1, 3).reshape(len(mixed), -1, HIDDEN)


ACTIVATIONS = {
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def run_tower(kind: str, weights: Weights, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens behind the first block, and what the tower gives."""
    weights = {name.removeprefix("vision_model."): value.astype(np.float64) for name, value in weights.items()}
    count, side, eps, act = len(VALUES), SIDE // PATCH, 1e-5 if kind == "clip" else 1e-6, ACTIVATIONS[activation]
    cells = VALUES.reshape(count, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 5, 2, 4).reshape(count, side**2, -1)
    tokens = cells @ weights["embeddings.patch_embedding.weight"].reshape(HIDDEN, -1).T
    if kind == "clip":
        first = np.broadcast_to(weights["embeddings.class_embedding"], (count, 1, HIDDEN))
        tokens = np.concatenate([first, tokens], axis=1)
    else:
        tokens = tokens + weights["embeddings.patch_embedding.bias"]
    tokens = tokens + weights["embeddings.position_embedding.weight"]
    if kind == "clip":
        tokens = norm(weights, "pre_layrnorm", tokens, eps)
    found = []
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}"
        normed = norm(weights, f"{name}.layer_norm1", tokens, eps)
        mixed = attend(*(dense(weights, f"{name}.self_attn.{part}_proj", normed) for part in "qkv"))
        tokens = tokens + dense(weights, f"{name}.self_attn.out_proj", mixed)
        inner = act(dense(weights, f"{name}.mlp.fc1", norm(weights, f"{name}.layer_norm2", tokens, eps)))
        tokens = tokens + dense(weights, f"{name}.mlp.fc2", inner)
        found.append(tokens)
    tokens = norm(weights, "post_layernorm", tokens, eps)
    if kind == "clip":
        return found[0], tokens
    kernels = np.split(weights["head.attention.in_proj_weight"], 3)
    biases = np.split(weights["head.attention.in_proj_bias"], 3)
    probe = np.broadcast_to(weights["head.probe"], (count, 1, HIDDEN))
    sources = (probe, tokens, tokens)
    parts = [one @ kernel.T + bias for one, kernel, bias in zip(sources, kernels, biases, strict=True)]
    pooled = dense(weights, "head.attention.out_proj", attend(*parts))
    inner = act(dense(weights, "head.mlp.fc1", norm(weights, "head.layernorm", pooled, eps)))
    return found[0], (pooled + dense(weights, "head.mlp.fc2", inner))[:, 0]


@pytest.mark.parametrize(
    ("model_type", "activation"),
    [
        ("clip", "quick_gelu"),
        ("clip_vision_model", "gelu"),
        ("siglip", "gelu_pytorch_tanh"),
        ("siglip_vision_model", "gelu_pytorch_tanh"),
    ],
)
def test_a_tower_gives_what_its_weights_give(tmp_path: Path, model_type: str, activation: str) -> None:
    kind = model_type.partition("_")[0]
    tower: dict[str, Any] = {
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": INNER, "image_size": SIDE, "patch_size": PATCH,
    }  # fmt: skip
    if activation == "gelu":  # not what transformers leaves out
        tower["hidden_act"] = activation
    config = tower if "vision" in model_type else {"vision_config": tower, "text_config": {"hidden_size": 8}}
    weights = drawn(tower_shapes(kind))
    write(tmp_path / "net", {"model_type": model_type, **config}, {**weights, "logit_scale": np.ones(1)})
    first, last = run_tower(kind, weights, activation)
    found = features(tmp_path / "net", "block1", "output")
    np.testing.assert_allclose(found[0], first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1].reshape(last.shape), last, rtol=1e-4, atol=1e-4)


def test_the_places_of_a_tower_have_positions_at_every_size(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "net")
    for side in (SIDE, 70):
        spec = resolve(FeaturesOptions(backbone=str(folder), input_size=side))
        layer = open_network(spec).cut([Output("block1", "cls")]).get_layer("embedding")
        np.testing.assert_array_equal(np.asarray(layer.position_ids)[0], np.arange((side // PATCH) ** 2 + 1))


def port(tensors: dict[str, np.ndarray], convert: Any, network: Any, config: dict[str, Any]) -> Weights:
    """The arrays of a network under the names that a converter reads them by, as PyTorch lays them out."""
    seen: Weights = tensors

    class Reader:
        def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
            value = np.asarray(keras_variable)
            if hook_fn is not None:
                axes = {2: (1, 0), 4: (3, 2, 0, 1)}
                back = value.transpose(axes[value.ndim]) if value.ndim in axes else value
                for one in (back, value):
                    if np.array_equal(np.asarray(hook_fn(one, list(value.shape))), value):
                        value = one
                        break
                else:
                    raise AssertionError(hf_weight_key)
            seen[hf_weight_key] = value

    convert.convert_weights(network, Reader(), config)
    return seen


def test_a_dinov3_folder_gives_what_the_network_gave(tmp_path: Path) -> None:
    from keras_hub.src.utils.transformers import convert_dinov3

    network = make_network("dinov3", blocks=2)
    own = network.get_config()
    config = {
        "model_type": "dinov3_vit", "image_size": SIDE, "patch_size": own["patch_size"],
        "num_hidden_layers": own["num_layers"], "hidden_size": own["hidden_dim"],
        "num_attention_heads": own["num_heads"], "intermediate_size": own["intermediate_dim"],
        "layerscale_value": own["layer_scale_init_value"], "num_register_tokens": own["num_register_tokens"],
        "hidden_act": own["hidden_activation"], "use_gated_mlp": own["use_gated_mlp"],
        "query_bias": own["use_query_bias"], "key_bias": own["use_key_bias"], "value_bias": own["use_value_bias"],
        "proj_bias": own["use_proj_bias"], "mlp_bias": own["use_mlp_bias"], "attention_dropout": 0.0,
        "drop_path_rate": 0.0, "layer_norm_eps": own["layer_norm_eps"], "rope_theta": own["rope_theta"],
    }  # fmt: skip
    write(tmp_path / "net", config, port({}, convert_dinov3, network, config))
    expected = run_blocks(network, PIXELS)
    for layer, found in zip(
        ("block1", "block2", "output"), features(tmp_path / "net", "block1", "block2", "output"), strict=True
    ):
        np.testing.assert_allclose(found, expected[layer], rtol=1e-4, atol=1e-4)


def convolve(values: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """3 x 3, zeros around, in NumPy: (n, h, w, in) by (out, in, 3, 3)."""
    kernel = weights[f"{name}.weight"]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ocij->nhwo", windows, kernel, optimize=True) + weights[f"{name}.bias"]


def test_a_timm_folder_gives_what_its_weights_give(tmp_path: Path) -> None:
    shapes, into = {}, 3
    places = {0: 64, 3: 128, 6: 256, 8: 256, 11: 512, 13: 512, 16: 512, 18: 512}
    for place, out in places.items():
        shapes |= {f"features.{place}.weight": (out, into, 3, 3), f"features.{place}.bias": (out,)}
        into = out
    random = np.random.default_rng(3)
    weights = {
        name: random.normal(0, 1.4 / math.sqrt(9 * shape[1]) if len(shape) == 4 else 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    settings = {"input_size": [3, 64, 64], "mean": MEAN, "std": STD, "interpolation": "bicubic", "crop_pct": 0.875,
                "test_input_size": None}  # fmt: skip
    config = {"architecture": "vgg11", "num_classes": 1000, "pretrained_cfg": settings}
    write(tmp_path / "net", config, weights)
    (tmp_path / "net" / "preprocessor_config.json").unlink()
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    assert (spec.input_size, spec.preprocessing, spec.resize) == ((64, 64), "torch", "crop:0.875:bicubic")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
    values = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    for place in places:
        values = np.maximum(convolve(values, weights, f"features.{place}"), 0)
        if place in {0, 3, 8, 13, 18}:
            n, h, w, c = values.shape
            values = values.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    (found,) = features(tmp_path / "net", "output", side=64, pixels=pixels)
    np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-3)


def test_a_deit_folder_gives_what_its_weights_give(tmp_path: Path) -> None:
    plain = {name: np.ones_like(one) if "lambda" in name else one for name, one in vit.make_weights(0).items()}
    random = np.random.default_rng(4)
    plain["embeddings.position_embeddings"] = random.normal(0, 0.2, (1, 18, HIDDEN)).astype(np.float32)
    distilled = random.normal(0, 0.2, (1, 1, HIDDEN)).astype(np.float32)
    weights = {name.replace("vit.", "deit."): one for name, one in vit.name_as_vit(plain).items()}
    weights["deit.embeddings.distillation_token"] = distilled
    config = {
        "model_type": "deit", "patch_size": PATCH, "image_size": SIDE, "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN, "num_attention_heads": HEADS, "intermediate_size": 4 * HIDDEN,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-6,
    }  # fmt: skip
    write(tmp_path / "net", config, weights)
    # without its classifier transformers saves it without the first part of the names
    write(tmp_path / "bare", config, {name.removeprefix("deit."): one for name, one in weights.items()})
    count, side = len(VALUES), SIDE // PATCH
    cells = VALUES.reshape(count, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 5, 2, 4).reshape(count, side**2, -1)
    kernel = plain["embeddings.patch_embeddings.projection.weight"].reshape(HIDDEN, -1)
    patches = cells @ kernel.T + plain["embeddings.patch_embeddings.projection.bias"]
    front = [np.broadcast_to(one, (count, 1, HIDDEN)) for one in (plain["embeddings.cls_token"], distilled)]
    tokens = np.concatenate([*front, patches], axis=1) + plain["embeddings.position_embeddings"]
    for layer in range(LAYERS):
        tokens = vit.run_block({k.removeprefix(f"encoder.layer.{layer}."): v for k, v in plain.items()}, tokens)
    expected = vit.normalize(plain, "layernorm", tokens)
    asked = [Output("block2", "none"), Output("output", "none"), Output("output", "avg")]
    for name in ("net", "bare"):
        spec = resolve(FeaturesOptions(backbone=str(tmp_path / name)))
        found = open_network(spec).cut(asked)(PIXELS.astype(np.float32), training=False)
        np.testing.assert_allclose(found["block2@none"], tokens, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["output@none"], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["output@avg"], expected[:, 2:].mean(axis=1), rtol=1e-4, atol=1e-4)


WIDTH, WINDOW = 8, 7
DEPTHS = 2, 1  # of two blocks one has shifted windows, and the second stage is one window


def swin_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "swin.embeddings.patch_embeddings.projection.weight": (WIDTH, 3, 4, 4),
        "swin.embeddings.patch_embeddings.projection.bias": (WIDTH,),
    }
    norms = [("swin.embeddings.norm", WIDTH), ("swin.layernorm", 2 * WIDTH)]
    norms.append(("swin.encoder.layers.0.downsample.norm", 4 * WIDTH))
    shapes["swin.encoder.layers.0.downsample.reduction.weight"] = (2 * WIDTH, 4 * WIDTH)
    for stage in range(2):
        width = WIDTH * 2**stage
        for block in range(DEPTHS[stage]):
            name = f"swin.encoder.layers.{stage}.blocks.{block}"
            for part in (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
            ):
                shapes |= linear(f"{name}.{part}", width, width)
            shapes[f"{name}.attention.self.relative_position_bias_table"] = ((2 * WINDOW - 1) ** 2, 2)
            shapes |= linear(f"{name}.intermediate.dense", 4 * width, width)
            shapes |= linear(f"{name}.output.dense", width, 4 * width)
            norms += [(f"{name}.layernorm_before", width), (f"{name}.layernorm_after", width)]
    for name, width in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def windows_of(values: np.ndarray) -> np.ndarray:
    """(n, h, w, c) as (n, windows, places, c)."""
    n, h, w, c = values.shape
    cut = values.reshape(n, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, -1, WINDOW**2, c)


def swin_attention(weights: Weights, name: str, values: np.ndarray, shift: int) -> np.ndarray:
    """Attention within windows of (n, side, side, c), which lie `shift` places further."""
    n, side, _, width = values.shape
    rolled = np.roll(values, (-shift, -shift), axis=(1, 2))
    region = np.searchsorted([side - WINDOW, side - shift], np.arange(side), side="right") if shift else np.zeros(side)
    parts = windows_of((region[:, None] * 3 + region[None, :])[None, :, :, None])[0, :, :, 0]
    mask = np.where(parts[:, :, None] == parts[:, None, :], 0.0, -100.0)  # windows, places, places
    cut = windows_of(rolled)
    heads = [
        dense(weights, f"{name}.attention.self.{part}", cut).reshape(n, -1, WINDOW**2, 2, width // 2)
        for part in ("query", "key", "value")
    ]
    query, key, value = (one.transpose(0, 1, 3, 2, 4) for one in heads)
    y, x = (one.ravel() for one in np.mgrid[:WINDOW, :WINDOW])
    index = (y[:, None] - y + WINDOW - 1) * (2 * WINDOW - 1) + x[:, None] - x + WINDOW - 1
    bias = weights[f"{name}.attention.self.relative_position_bias_table"][index].transpose(2, 0, 1)
    scores = query @ key.transpose(0, 1, 2, 4, 3) / math.sqrt(width / 2) + bias + mask[None, :, None]
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
    flat = dense(weights, f"{name}.attention.output.dense", mixed.transpose(0, 1, 3, 2, 4).reshape(cut.shape))
    grid = flat.reshape(n, side // WINDOW, side // WINDOW, WINDOW, WINDOW, width).transpose(0, 1, 3, 2, 4, 5)
    return np.roll(grid.reshape(values.shape), (shift, shift), axis=(1, 2))


def run_swin(weights: Weights) -> np.ndarray:
    weights = {name.removeprefix("swin."): value.astype(np.float64) for name, value in weights.items()}
    side = SIDE // 4
    cells = VALUES.reshape(len(VALUES), side, 4, side, 4, 3).transpose(0, 1, 3, 5, 2, 4)
    kernel = weights["embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    values = cells.reshape(len(VALUES), side, side, -1) @ kernel.T
    values = norm(weights, "embeddings.norm", values + weights["embeddings.patch_embeddings.projection.bias"], 1e-5)
    for stage in range(2):
        for block in range(DEPTHS[stage]):
            name = f"encoder.layers.{stage}.blocks.{block}"
            shift = WINDOW // 2 if block and values.shape[1] > WINDOW else 0
            normed = norm(weights, f"{name}.layernorm_before", values, 1e-5)
            values = values + swin_attention(weights, name, normed, shift)
            inner = dense(weights, f"{name}.intermediate.dense", norm(weights, f"{name}.layernorm_after", values, 1e-5))
            values = values + dense(weights, f"{name}.output.dense", ACTIVATIONS["gelu"](inner))
        if stage == 0:
            merged = [values[:, y::2, x::2] for y, x in ((0, 0), (1, 0), (0, 1), (1, 1))]
            merged_norm = norm(weights, "encoder.layers.0.downsample.norm", np.concatenate(merged, axis=-1), 1e-5)
            values = merged_norm @ weights["encoder.layers.0.downsample.reduction.weight"].T
    return norm(weights, "layernorm", values.reshape(len(values), -1, 2 * WIDTH), 1e-5)


def test_a_swin_folder_gives_what_its_weights_give(tmp_path: Path) -> None:
    weights = drawn(swin_shapes())
    config = {
        "model_type": "swin", "image_size": SIDE, "patch_size": 4, "embed_dim": WIDTH, "depths": list(DEPTHS),
        "num_heads": [2, 2], "window_size": WINDOW, "mlp_ratio": 4.0, "qkv_bias": True, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.1,
    }  # fmt: skip
    write(tmp_path / "net", config, weights)
    expected = run_swin(weights)
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), input_size=SIDE))
    cut = open_network(spec).cut([Output("output", pooling) for pooling in ("none", "avg")])
    found = cut(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(found["output@none"], expected, rtol=1e-4, atol=1e-4)
    cut.save(tmp_path / "cut.keras")
    again = load_network(tmp_path / "cut.keras")(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(again["output@avg"], expected.mean(axis=1), rtol=1e-4, atol=1e-4)


def make_clip(folder: Path) -> Path:
    tower = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
             "intermediate_size": INNER, "image_size": SIDE, "patch_size": PATCH}  # fmt: skip
    write(folder, {"model_type": "clip", "vision_config": tower}, drawn(tower_shapes("clip")))
    return folder


def test_a_cut_off_file_or_a_wrong_one_beside_it_is_one_sentence(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "net")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BackboneError, match=r"cannot read net: .*Is the folder complete"):
        features(folder, "output")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": SIDE, "image_mean": [0.5], "image_std": 1}))
    with pytest.raises(BackboneError, match=r"preprocessor_config.json does not describe .*three numbers"):
        features(folder, "output")


def test_other_weights_under_the_same_name_are_another_network(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = make_clip(tmp_path / "net")
    spec = resolve(FeaturesOptions(backbone=str(folder)))
    with Cache(tmp_path / "cache") as cache:
        before = identify(spec, cache.index)
        assert identify(spec, cache.index) == before
        weights = drawn(tower_shapes("clip"))
        weights["vision_model.post_layernorm.bias"] += 1
        save_file(weights, folder / "model.safetensors")
        after = identify(spec, cache.index)
    assert (after.architecture, after.weights == before.weights) == (before.architecture, False)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architecture": "convnext_tiny"}, "architecture 'convnext_tiny'.*torch.onnx.export"),
        ({"model_type": "siglip2"}, "of type 'siglip2'.*optimum-cli export onnx --model"),
    ],
)
def test_what_is_not_converted_is_one_sentence(tmp_path: Path, config: dict[str, str], words: str) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=words):
        resolve(FeaturesOptions(backbone=str(tmp_path / "net"), preprocessing="imagenet"))


def test_what_was_remembered_of_resized_clip_networks_alone_is_found_out_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.backbones import identity

    folder = make_clip(tmp_path / "net")
    own, resized = (resolve(FeaturesOptions(backbone=str(folder), input_size=side)) for side in (SIDE, SIDE + PATCH))
    with Cache(tmp_path / "cache") as cache:
        now = [identity.memory_key(spec, cache.index) for spec in (own, resized)]
        monkeypatch.setattr(identity, "_hub_facts", lambda *_: {"hub": identity._version("keras-hub")})
        before = [identity.memory_key(spec, cache.index) for spec in (own, resized)]
    assert (now[0] == before[0], now[1] == before[1]) == (True, False)


def test_the_positions_of_a_clip_network_are_in_its_digest(tmp_path: Path) -> None:
    from featx.backbones.build import build
    from featx.backbones.weights import digest_weights

    network = build(resolve(FeaturesOptions(backbone=str(make_clip(tmp_path / "net")), input_size=SIDE + PATCH)))
    (ids,) = [variable for variable in network.variables if "position_ids" in variable.path]
    before = digest_weights(network)
    ids.assign(np.zeros(ids.shape, int))
    assert digest_weights(network) != before


@pytest.mark.slow
def test_a_densenet_of_timm_is_padded_as_there(tmp_path: Path) -> None:
    """Its stem, against a convolution of padding 3 and a maximum of padding 1 by their definitions."""
    weights = drawn(densenet_shapes())
    for name in weights:
        if name.endswith("running_var"):
            weights[name] = np.abs(weights[name]) + 0.5
    write(tmp_path / "net", {"architecture": "densenet121"}, weights)
    (found,) = features(tmp_path / "net", "pool1")
    padded = np.pad(VALUES, ((0, 0), (3, 3), (3, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))[:, ::2, ::2]
    mapped = np.einsum("nyxcij,ocij->nyxo", windows, weights["features.conv0.weight"])
    mean, var, gamma, beta = (
        weights[f"features.norm0.{one}"] for one in ("running_mean", "running_var", "weight", "bias")
    )
    relu = np.maximum((mapped - mean) / np.sqrt(var + 1e-5) * gamma + beta, 0)
    padded = np.pad(relu, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-1, -2))
    assert found.shape == (2, SIDE // 4, SIDE // 4, 64)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def densenet_shapes() -> dict[str, tuple[int, ...]]:
    """Of the weights of densenet121, by timm's names."""
    shapes: dict[str, tuple[int, ...]] = {"features.conv0.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)

    norm("features.norm0", 64)
    channels = 64
    for stack, count in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, count + 1):
            name = f"features.denseblock{stack}.denselayer{layer}"
            norm(f"{name}.norm1", channels)
            shapes[f"{name}.conv1.weight"] = (128, channels, 1, 1)
            norm(f"{name}.norm2", 128)
            shapes[f"{name}.conv2.weight"] = (32, 128, 3, 3)
            channels += 32
        if stack < 4:
            norm(f"features.transition{stack}.norm", channels)
            shapes[f"features.transition{stack}.conv.weight"] = (channels // 2, channels, 1, 1)
            channels //= 2
    norm("features.norm5", channels)
    return shapes
