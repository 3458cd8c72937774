"""The available networks, with what matters for the choice: size, features, licence, published figures.

Parameters are of the feature network without its top, as Keras and KerasHub count them (DINOv3 from ViT-S+ on: as its
presets name them). Read without importing TensorFlow or KerasHub.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from featx.backbones.table import BACKBONES, WEIGHTS_LICENSES
from featx.io.jsontypes import Json

_OQUAB = "Oquab et al. 2023, arXiv:2304.07193"
_LICENSE_SOURCES = {
    "DINOv2": "MODEL_CARD.md and README.md of github.com/facebookresearch/dinov2",
    "DINOv3": "model cards of facebook/dinov3-*",
    "SigLIP 2": "model cards of google/siglip2-*",
    "ViT": "model card of google/vit-base-patch16-224",
}
"""Where its authors name the licence of a family's weights. CLIP's repository is MIT, and its model cards name none; of
no family was the licence of KerasHub's own copy on Kaggle confirmed."""


@dataclass(frozen=True)
class ListedNetwork:
    """One network of `featx backbones`.

    name : what `--backbone` takes
    input_size : side in pixels that it is used at where nobody asks for another
    features : numbers per image of its last layer, averaged
    license : of its weights, an SPDX identifier where there is one
    linear, neighbours : accuracy in per cent on ImageNet of a linear and of a nearest-neighbours classifier on frozen
        features, as its authors published it; None where featx knows of no such figure
    source : of these figures
    license_source : where its authors name the licence of the weights; None where that was not confirmed
    """

    name: str
    family: str
    input_size: int
    parameters: int
    features: int
    license: str
    linear: float | None = None
    neighbours: float | None = None
    source: str | None = None
    license_source: str | None = None

    def as_json(self) -> dict[str, Json]:
        """One entry of `featx backbones --json`."""
        return asdict(self)


PARAMETERS: dict[str, int] = {
    "ConvNeXtBase": 87_566_464,
    "ConvNeXtLarge": 196_230_336,
    "ConvNeXtSmall": 49_454_688,
    "ConvNeXtTiny": 27_820_128,
    "ConvNeXtXLarge": 348_147_968,
    "DenseNet121": 7_037_504,
    "DenseNet169": 12_642_880,
    "DenseNet201": 18_321_984,
    "EfficientNetB0": 4_049_571,
    "EfficientNetB1": 6_575_239,
    "EfficientNetB2": 7_768_569,
    "EfficientNetB3": 10_783_535,
    "EfficientNetB4": 17_673_823,
    "EfficientNetB5": 28_513_527,
    "EfficientNetB6": 40_960_143,
    "EfficientNetB7": 64_097_687,
    "EfficientNetLite0": 3_413_024,
    "EfficientNetLite1": 4_189_344,
    "EfficientNetLite2": 4_869_168,
    "EfficientNetV2B0": 5_919_312,
    "EfficientNetV2B1": 6_931_124,
    "EfficientNetV2B2": 8_769_374,
    "EfficientNetV2B3": 12_930_622,
    "EfficientNetV2L": 117_746_848,
    "EfficientNetV2M": 53_150_388,
    "EfficientNetV2S": 20_331_360,
    "InceptionResNetV2": 54_336_736,
    "InceptionV3": 21_802_784,
    "MobileNet": 3_228_864,
    "MobileNetV2": 2_257_984,
    "MobileNetV3Large": 2_996_352,
    "MobileNetV3Small": 939_120,
    "NASNetLarge": 84_916_818,
    "NASNetMobile": 4_269_716,
    "ResNet101": 42_658_176,
    "ResNet101V2": 42_626_560,
    "ResNet152": 58_370_944,
    "ResNet152V2": 58_331_648,
    "ResNet50": 23_587_712,
    "ResNet50V2": 23_564_800,
    "VGG16": 14_714_688,
    "VGG19": 20_024_384,
    "Xception": 20_861_480,
}


def _dino(size: str, parameters: int, features: int, linear: float, neighbours: float) -> ListedNetwork:
    name = f"hub:dinov2_{size}"
    found = (linear, neighbours, _OQUAB, _LICENSE_SOURCES["DINOv2"])
    return ListedNetwork(name, "DINOv2", 224, parameters, features, "Apache-2.0", *found)


def _other(name: str, family: str, parameters: int, features: int, license_name: str) -> ListedNetwork:
    source = _LICENSE_SOURCES.get(family)
    return ListedNetwork(f"hub:{name}", family, 224, parameters, features, license_name, license_source=source)


HUB_NETWORKS: tuple[ListedNetwork, ...] = (
    _dino("small", 22_582_656, 384, 81.1, 79.0),
    _dino("base", 87_632_640, 768, 84.5, 82.1),
    _dino("large", 305_771_520, 1024, 86.3, 83.5),
    _dino("giant", 1_138_585_088, 1536, 86.5, 83.5),
    _other("dinov2_with_registers_small", "DINOv2", 22_584_192, 384, "Apache-2.0"),
    _other("dinov2_with_registers_base", "DINOv2", 87_635_712, 768, "Apache-2.0"),
    _other("dinov2_with_registers_large", "DINOv2", 305_775_616, 1024, "Apache-2.0"),
    _other("dinov3_vit_small_lvd1689m", "DINOv3", 21_601_152, 384, "DINOv3"),
    _other("dinov3_vit_small_plus_lvd1689m", "DINOv3", 29_000_000, 384, "DINOv3"),
    _other("dinov3_vit_base_lvd1689m", "DINOv3", 85_669_632, 768, "DINOv3"),
    _other("dinov3_vit_large_lvd1689m", "DINOv3", 300_000_000, 1024, "DINOv3"),
    _other("dinov3_vit_huge_plus_lvd1689m", "DINOv3", 840_000_000, 1280, "DINOv3"),
    _other("siglip2_base_patch16_224", "SigLIP 2", 92_884_420, 768, "Apache-2.0"),
    _other("clip_vit_base_patch16", "CLIP", 85_799_621, 768, "MIT"),
    _other("clip_vit_large_patch14", "CLIP", 303_180_033, 1024, "MIT"),
    _other("vit_base_patch16_224_imagenet", "ViT", 85_798_656, 768, "Apache-2.0"),
    _other("vit_large_patch16_224_imagenet", "ViT", 303_301_632, 1024, "Apache-2.0"),
)


def list_networks() -> tuple[ListedNetwork, ...]:
    """Those of the table, in its order; see `HUB_NETWORKS` for those of KerasHub."""
    return tuple(
        ListedNetwork(
            one.name,
            one.family,
            one.input_size,
            PARAMETERS[one.name],
            one.features,
            WEIGHTS_LICENSES[one.family],
        )
        for one in BACKBONES.values()
    )
