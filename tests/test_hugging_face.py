"""Folders as Hugging Face writes them, against DINOv2 and ViT in NumPy by the names of their weights there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras_hub")
pytest.importorskip("safetensors")

from featx.backbones import Output, open_network, resolve
from featx.config import FeaturesOptions
from featx.errors import BackboneError

HIDDEN, HEADS, PATCH, SIDE, LAYERS = 24, 2, 14, 56, 2
Weights = dict[str, np.ndarray]


def make_weights(registers: int) -> Weights:
    """Random weights under the names of Hugging Face."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, HIDDEN),
        "embeddings.mask_token": (1, HIDDEN),
        "embeddings.position_embeddings": (1, (SIDE // PATCH) ** 2 + 1, HIDDEN),
        "embeddings.patch_embeddings.projection.weight": (HIDDEN, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (HIDDEN,),
        "layernorm.weight": (HIDDEN,),
        "layernorm.bias": (HIDDEN,),
    }
    if registers:
        shapes["embeddings.register_tokens"] = (1, registers, HIDDEN)
    dense = {"attention.attention.query": (HIDDEN, HIDDEN), "attention.attention.key": (HIDDEN, HIDDEN),
             "attention.attention.value": (HIDDEN, HIDDEN), "attention.output.dense": (HIDDEN, HIDDEN),
             "mlp.fc1": (4 * HIDDEN, HIDDEN), "mlp.fc2": (HIDDEN, 4 * HIDDEN)}  # fmt: skip
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name, shape in dense.items():
            shapes |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{prefix}.{norm}.weight": (HIDDEN,), f"{prefix}.{norm}.bias": (HIDDEN,)}
        shapes |= {f"{prefix}.layer_scale{n}.lambda1": (HIDDEN,) for n in (1, 2)}
    random = np.random.default_rng(11)
    return {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def write_folder(folder: Path, weights: Weights, kind: str, registers: int = 0) -> None:
    """`config.json`, `model.safetensors` and `preprocessor_config.json`."""
    folder.mkdir()
    config = {
        "model_type": kind, "patch_size": PATCH, "image_size": SIDE,
        "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS, "mlp_ratio": 4,
        "layerscale_value": 1.0, "use_swiglu_ffn": False, "hidden_dropout_prob": 0.0, "drop_path_rate": 0.0,
        "num_register_tokens": registers, "layer_norm_eps": 1e-6, "intermediate_size": 4 * HIDDEN, "qkv_bias": True,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    from safetensors.numpy import save_file

    save_file(weights, folder / "model.safetensors")
    values = {
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3, "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": 64},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def name_as_vit(weights: Weights) -> Weights:
    """The same weights under the names that ViT has for them."""
    names = {".norm1.": ".layernorm_before.", ".norm2.": ".layernorm_after.", ".mlp.fc1.": ".intermediate.dense.",
             ".mlp.fc2.": ".output.dense."}  # fmt: skip
    kept = {name: value for name, value in weights.items() if "lambda" not in name and "mask" not in name}
    for old, new in names.items():
        kept = {name.replace(old, new): value for name, value in kept.items()}
    return {f"vit.{name}": value for name, value in kept.items()}


def run_network(weights: Weights, pixels: np.ndarray, registers: int) -> list[np.ndarray]:
    """Tokens (n, tokens, channels) behind every block, and normalised at the end."""
    values = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    count, side = len(values), SIDE // PATCH
    cells = values.reshape(count, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 5, 2, 4).reshape(count, side**2, -1)
    kernel = weights["embeddings.patch_embeddings.projection.weight"].reshape(HIDDEN, -1)
    patches = cells @ kernel.T + weights["embeddings.patch_embeddings.projection.bias"]
    first = np.broadcast_to(weights["embeddings.cls_token"], (count, 1, HIDDEN))
    tokens = np.concatenate([first, patches], axis=1) + weights["embeddings.position_embeddings"]
    if registers:
        more = np.broadcast_to(weights["embeddings.register_tokens"], (count, registers, HIDDEN))
        tokens = np.concatenate([tokens[:, :1], more, tokens[:, 1:]], axis=1)
    found = []
    for layer in range(LAYERS):
        tokens = run_block({k.removeprefix(f"encoder.layer.{layer}."): v for k, v in weights.items()}, tokens)
        found.append(tokens)
    return [*found, normalize(weights, "layernorm", tokens)]


def run_block(weights: Weights, tokens: np.ndarray) -> np.ndarray:
    normed = normalize(weights, "norm1", tokens)
    query, key, value = (
        dense(weights, f"attention.attention.{name}", normed)
        .reshape(*tokens.shape[:2], HEADS, -1)
        .transpose(0, 2, 1, 3)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(HIDDEN / HEADS)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
    attended = dense(weights, "attention.output.dense", mixed.transpose(0, 2, 1, 3).reshape(tokens.shape))
    tokens = tokens + attended * weights["layer_scale1.lambda1"]
    inner = dense(weights, "mlp.fc1", normalize(weights, "norm2", tokens))
    activated = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    return tokens + dense(weights, "mlp.fc2", activated) * weights["layer_scale2.lambda1"]


def dense(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normalize(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


@pytest.mark.parametrize(
    ("kind", "registers"), [("dinov2", 0), ("dinov2_with_registers", 4), ("vit", 0)], ids=["plain", "registers", "vit"]
)
def test_tokens_are_those_of_the_weights(tmp_path: Path, kind: str, registers: int) -> None:
    weights = make_weights(registers)
    if kind == "vit":
        weights = {name: np.ones_like(value) if "lambda" in name else value for name, value in weights.items()}
    write_folder(tmp_path / kind, name_as_vit(weights) if kind == "vit" else weights, kind, registers)
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / kind)))
    assert (spec.input_size, spec.preprocessing, spec.resize) == ((SIDE, SIDE), "torch", "crop:0.875:bicubic")
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    asked = [Output(layer, pooling) for layer in ("block1", "block2", "output") for pooling in ("cls", "avg")]
    found = open_network(spec).cut(asked)(pixels.astype(np.float32), training=False)
    for layer, tokens in zip(("block1", "block2", "output"), run_network(weights, pixels, registers), strict=True):
        np.testing.assert_allclose(found[f"{layer}@cls"], tokens[:, 0], rtol=1e-4, atol=1e-4)
        average = tokens[:, 1 + registers :].mean(axis=1)
        np.testing.assert_allclose(found[f"{layer}@avg"], average, rtol=1e-4, atol=1e-4)


def test_a_truncated_file_is_one_sentence(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", make_weights(0), "dinov2")
    content = (tmp_path / "net" / "model.safetensors").read_bytes()
    (tmp_path / "net" / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match="KerasHub cannot read net"):
        open_network(resolve(FeaturesOptions(backbone=str(tmp_path / "net")))).digest()
