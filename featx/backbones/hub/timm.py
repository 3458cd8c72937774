"""Which timm architectures KerasHub converts faithfully.

Of every kind one was compared with timm. KerasHub converts more by name: what it makes of EfficientNet-EL, -EM, -ES and
-V2 has other features than timm's, by as much as the features themselves; they are not in the table.
"""

from __future__ import annotations

import re
from pathlib import Path

from featx.errors import BackboneError

# the class of KerasHub -> timm's architectures
CONVERTED_FROM_TIMM = {
    "ResNetBackbone": (
        *(f"resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)),
        *(f"resnetv2_{depth}" for depth in (50, 101, 152)),
    ),
    "CSPNetBackbone": ("cspdarknet53", "cspresnet50", "cspresnext50", "darknet53"),
    "DenseNetBackbone": ("densenet121", "densenet169", "densenet201"),
    "EfficientNetBackbone": (*(f"efficientnet_b{number}" for number in range(6)), "efficientnet_lite0"),
    "MobileNetBackbone": ("mobilenetv3_large_100", "mobilenetv3_small_050", "mobilenetv3_small_100"),
    "MobileNetV5Backbone": ("mobilenetv5_300m",),
    "HGNetV2Backbone": tuple(f"hgnetv2_b{number}" for number in range(7)),
    "VGGBackbone": ("vgg11", "vgg13", "vgg16", "vgg19"),
}
_FAMILY_OF = {name: family for family, names in CONVERTED_FROM_TIMM.items() for name in names}
# whose weights are those of timm's densenet121.tv_in1k and so on: KerasHub's convert_densenet_checkpoints.py
_DENSENETS_OF_TIMM = frozenset(f"hub:densenet_{depth}_imagenet" for depth in (121, 169, 201))


def family_of(architecture: str, folder: Path, label: str) -> str:
    """The class of KerasHub for an architecture of timm.

    Raises
    ------
    BackboneError
        Another one; names those near it, and the command that exports it.
    """
    if architecture in _FAMILY_OF:
        return _FAMILY_OF[architecture]
    near = [name for names in CONVERTED_FROM_TIMM.values() for name in names if architecture.startswith(_start(name))]
    reads = ", ".join(near) or f"some of {', '.join(names[0] for names in CONVERTED_FROM_TIMM.values())} and their kind"
    command = (
        f"python -c \"import timm, torch; torch.onnx.export(timm.create_model('local-dir:{folder}', pretrained=True, "
        "num_classes=0).eval(), torch.zeros(1, 3, 224, 224), 'net.onnx', dynamo=False, input_names=['x'], "
        "dynamic_axes={'x': {0: 'n'}})\""
    )
    raise BackboneError(
        f"{label} is a folder of timm with the architecture {architecture!r}; featx reads {reads}. Export it where "
        f"timm is installed, and give net.onnx: {command}"
    )


def _start(name: str) -> str:
    """What the names of a family begin with, as in mobilenet."""
    return re.split(r"v?\d|_", name)[0]


def is_padded_as_timm(family: str, of_timm: bool, source: str | None) -> bool:
    """Whether a network of KerasHub has weights that timm's DenseNet was trained with, which is padded in another way.

    of_timm : whether its folder is one of timm; source : the preset that it is, else None
    """
    return family == "DenseNetBackbone" and (of_timm or source in _DENSENETS_OF_TIMM)
