"""Folders of timm against timm itself: what it computes of small networks of three families, and which are not read.

`timm_networks.json` has the names and shapes of their weights, whose values follow from their names, and the first
averages that timm 1.0.31 computes of two images (PyTorch 2.14, one thread): networks of timm's classes, few channels.
"""

from __future__ import annotations

import json
import shlex
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras_hub")
pytest.importorskip("safetensors")

from featx.backbones import Output, open_network, resolve
from featx.backbones.hub.library import import_hub
from featx.backbones.hub.timm import is_padded_as_timm
from featx.config import FeaturesOptions
from featx.errors import BackboneError

SIDE = 64
KNOWN = json.loads((Path(__file__).parent / "timm_networks.json").read_text())
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.float32)
SMALL_HGNET = {
    "stem_channels": [3, 8, 8],
    "stackwise_stage_filters": [[8, 8, 16, 1, 2, 3], [16, 8, 24, 1, 2, 3], [24, 8, 32, 2, 2, 5], [32, 8, 40, 1, 2, 5]],
    "apply_downsample": [False, True, True, True],
    "use_lightweight_conv_block": [False, False, True, True],
    "embedding_size": 8,
    "hidden_sizes": [16, 24, 32, 40],
    "depths": [1, 1, 2, 1],
}
SMALL_MOBILENET = [
    ["er_r1_k3_s2_e2_c8"],
    ["uir_r1_a3_k5_s2_e2_c8", "uir_r1_a5_k0_s1_e2_c8"],
    ["uir_r1_a5_k5_s2_e2_c16", "mqa_r1_k3_h2_v2_s1_d8_c16", "uir_r1_a0_k0_s1_e2_c16"],
    ["uir_r1_a5_k5_s2_e2_c16", "mqa_r1_k3_h2_s1_d8_c16", "uir_r1_a0_k0_s1_e2_c16"],
]


def draw(name: str, shape: list[int]) -> np.ndarray:
    """The values of a weight, as they were drawn for timm."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "lab.scale")) or "layer_scale" in name:
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = random.normal(0, 0.1, shape)
    elif len(shape) == 1:
        values = random.uniform(0.7, 1.3, shape)
    else:
        values = random.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape)
    return values.astype(np.float16).astype(np.float32)


def write(folder: Path, architecture: str, weights: dict[str, np.ndarray] | None = None) -> FeaturesOptions:
    from safetensors.numpy import save_file

    folder.mkdir()
    settings = {"tag": "ssld_stage2_ft_in1k", "input_size": [3, SIDE, SIDE], "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": settings}))
    if weights is not None:
        save_file(weights, folder / "model.safetensors")
    return FeaturesOptions(backbone=str(folder))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """KerasHub's converters take the small networks for those of these names."""
    import_hub()
    from keras_hub.src.models.mobilenetv5.mobilenetv5_builder import convert_arch_def_to_stackwise
    from keras_hub.src.utils.timm import convert_hgnetv2, convert_mobilenetv5

    for name in ("hgnetv2_b0", "hgnetv2_b4"):
        monkeypatch.setitem(convert_hgnetv2.HGNETV2_CONFIGS, name, SMALL_HGNET)
    whole = convert_mobilenetv5.MODEL_CONFIGS["mobilenetv5_300m"]
    parts = {"backbone": convert_arch_def_to_stackwise(SMALL_MOBILENET), "stem_size": 8}
    monkeypatch.setitem(convert_mobilenetv5.MODEL_CONFIGS, "mobilenetv5_300m", whole | parts)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("hgnetv2_b0", (2, 2, 40)), ("hgnetv2_b4", (2, 2, 40)), ("mobilenetv5_300m", (16, 16, 2048))],
)
def test_its_features_are_those_of_timm(tmp_path: Path, architecture: str, shape: tuple[int, ...]) -> None:
    weights = {name: draw(name, shape) for name, shape in KNOWN[architecture]["shapes"].items()}
    spec = resolve(write(tmp_path / "net", architecture, weights))
    cut = open_network(spec).cut([Output("output", "none")])
    (found,) = map(np.asarray, cut(PIXELS, training=False).values())
    assert found.shape[1:] == shape
    expected = np.array(KNOWN[architecture]["expected"])
    np.testing.assert_allclose(found.mean(axis=(1, 2))[:, :12], expected, atol=1e-5 * np.abs(expected).max() + 1e-5)


@pytest.mark.parametrize(
    ("architecture", "reads"),
    [
        ("vgg11_bn", "vgg11, vgg13, vgg16, vgg19"),
        ("resnet50d", "resnet18, resnet26"),
        ("resnetv2_50x1_bit", "resnetv2_50, resnetv2_101"),
        ("densenet161", "densenet121, densenet169, densenet201"),
        ("mobilenetv3_small_075", "mobilenetv3_large_100"),
        ("mobilenetv5_300m_enc", "mobilenetv5_300m"),
        # which KerasHub converts into a network with other features
        ("efficientnet_es", "efficientnet_b0, efficientnet_b1"),
        ("efficientnetv2_rw_t", "efficientnet_lite0"),
        ("cspdarknet53_x", "cspdarknet53"),
        ("hgnet_tiny", "hgnetv2_b0"),
        ("convnext_tiny", "some of resnet18, cspdarknet53, densenet121"),
    ],
)
def test_one_that_is_not_converted_is_refused_with_the_command_that_exports_it(
    tmp_path: Path, architecture: str, reads: str
) -> None:
    options = write(tmp_path / "net", architecture)
    with pytest.raises(BackboneError) as caught:
        resolve(options)
    told = str(caught.value)
    assert f"architecture {architecture!r}; featx reads " in told
    assert reads in told
    python, flag, program = shlex.split(told[told.index("python -c") :])
    assert (python, flag) == ("python", "-c")
    compile(program, "typed", "exec")
    assert f"local-dir:{tmp_path / 'net'}" in program


@pytest.mark.parametrize(
    ("family", "of_timm", "source", "padded"),
    [
        ("DenseNetBackbone", True, None, True),
        ("DenseNetBackbone", False, "hub:densenet_169_imagenet", True),
        ("DenseNetBackbone", False, None, False),  # of KerasHub's own, trained as it is padded there
        ("ResNetBackbone", True, None, False),
    ],
)
def test_densenets_with_weights_of_timm_are_padded_as_there(
    family: str, of_timm: bool, source: str | None, padded: bool
) -> None:
    assert is_padded_as_timm(family, of_timm, source) is padded


def test_a_preset_of_densenet_has_another_key_than_the_same_folder(tmp_path: Path, monkeypatch: Any) -> None:
    from hubs import run_network, save_folder
    from keras_hub.src.utils import preset_utils

    from featx.backbones import identity
    from featx.store.cache import Cache

    place = tmp_path / "densenet_121_imagenet" / "3"
    place.parent.mkdir()
    network = save_folder(place, "densenet")

    def get_file(_: str, path: str) -> str:
        if not (place / path).is_file():
            raise FileNotFoundError(path)
        return str(place / path)

    monkeypatch.setattr(preset_utils, "get_file", get_file)
    preset = resolve(FeaturesOptions(backbone="hub:densenet_121_imagenet", input_size=SIDE))
    folder = resolve(FeaturesOptions(backbone=str(place), input_size=SIDE))
    with Cache(tmp_path / "cache") as cache:
        keys = [identity.memory_key(spec, cache.index) for spec in (preset, folder)]
    assert keys[0] != keys[1]
    answers, digests = [], []
    for spec in (preset, folder):
        opened = open_network(spec)
        digests.append(opened.digest())
        cut = opened.cut([Output("output", "none")])
        answers.append(np.asarray(cut(PIXELS, training=False)["output@none"]))
    found, own = answers
    np.testing.assert_allclose(own, run_network(network, PIXELS), rtol=1e-4, atol=1e-4)
    assert found.shape == own.shape
    assert np.abs(found - own).max() > 1e-3 * np.abs(own).max()
    assert digests[0].architecture != digests[1].architecture
    assert digests[0].weights == digests[1].weights
