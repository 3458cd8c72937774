"""Every backbone that featx knows, one row each: the only place to add one.

The rows say what would otherwise be scattered over the modules of `keras.applications`: the preprocessing the network
was trained with (the mode of its `preprocess_input`), the size it was trained at, the smallest it can be built for,
the last layer of its feature network and the layers of its classification top. Names of layers are those that the
first network of a fresh process has. Read without importing TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneEntry:
    """One backbone.

    name : as in `keras.applications`
    family : the module of `keras.applications` that it comes from, or "featx"
    preprocessing : "tf" (x / 127.5 - 1), "torch" (by ImageNet mean and deviation), "caffe" (BGR less ImageNet mean),
        "none" (the network takes [0, 255] and has its normalisation inside)
    input_size : side in pixels of the square it was trained on
    minimum : the smallest side it can be built for
    layer : the last layer without the top
    features : channels of that layer
    top : names of the layers that only the classification network has
    bundled : whether its ImageNet weights come with featx
    """

    name: str
    family: str
    preprocessing: str
    input_size: int
    minimum: int
    layer: str
    features: int
    top: tuple[str, ...]
    bundled: bool = False


_POOL = ("avg_pool", "predictions")
_DROP = ("avg_pool", "top_dropout", "predictions")
_VGG = ("flatten", "fc1", "fc2", "predictions")
_NASNET = ("global_average_pooling2d", "predictions")

_ROWS = (
    BackboneEntry("EfficientNetLite0", "featx", "none", 224, 32, "top_activation", 1280, _DROP, bundled=True),
    BackboneEntry("EfficientNetLite1", "featx", "none", 240, 32, "top_activation", 1280, _DROP, bundled=True),
    BackboneEntry("EfficientNetLite2", "featx", "none", 260, 32, "top_activation", 1280, _DROP, bundled=True),
    BackboneEntry(
        "ConvNeXtBase",
        "convnext",
        "none",
        224,
        32,
        "layer_normalization",
        1024,
        ("convnext_base_head_gap", "convnext_base_head_layernorm", "convnext_base_head_dense"),
    ),
    BackboneEntry(
        "ConvNeXtLarge",
        "convnext",
        "none",
        224,
        32,
        "layer_normalization",
        1536,
        ("convnext_large_head_gap", "convnext_large_head_layernorm", "convnext_large_head_dense"),
    ),
    BackboneEntry(
        "ConvNeXtSmall",
        "convnext",
        "none",
        224,
        32,
        "layer_normalization",
        768,
        ("convnext_small_head_gap", "convnext_small_head_layernorm", "convnext_small_head_dense"),
    ),
    BackboneEntry(
        "ConvNeXtTiny",
        "convnext",
        "none",
        224,
        32,
        "layer_normalization",
        768,
        ("convnext_tiny_head_gap", "convnext_tiny_head_layernorm", "convnext_tiny_head_dense"),
    ),
    BackboneEntry(
        "ConvNeXtXLarge",
        "convnext",
        "none",
        224,
        32,
        "layer_normalization",
        2048,
        ("convnext_xlarge_head_gap", "convnext_xlarge_head_layernorm", "convnext_xlarge_head_dense"),
    ),
    BackboneEntry("DenseNet121", "densenet", "torch", 224, 32, "relu", 1024, _POOL),
    BackboneEntry("DenseNet169", "densenet", "torch", 224, 32, "relu", 1664, _POOL),
    BackboneEntry("DenseNet201", "densenet", "torch", 224, 32, "relu", 1920, _POOL),
    BackboneEntry("EfficientNetB0", "efficientnet", "none", 224, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetB1", "efficientnet", "none", 240, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetB2", "efficientnet", "none", 260, 32, "top_activation", 1408, _DROP),
    BackboneEntry("EfficientNetB3", "efficientnet", "none", 300, 32, "top_activation", 1536, _DROP),
    BackboneEntry("EfficientNetB4", "efficientnet", "none", 380, 32, "top_activation", 1792, _DROP),
    BackboneEntry("EfficientNetB5", "efficientnet", "none", 456, 32, "top_activation", 2048, _DROP),
    BackboneEntry("EfficientNetB6", "efficientnet", "none", 528, 32, "top_activation", 2304, _DROP),
    BackboneEntry("EfficientNetB7", "efficientnet", "none", 600, 32, "top_activation", 2560, _DROP),
    BackboneEntry("EfficientNetV2B0", "efficientnet_v2", "none", 224, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetV2B1", "efficientnet_v2", "none", 240, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetV2B2", "efficientnet_v2", "none", 260, 32, "top_activation", 1408, _DROP),
    BackboneEntry("EfficientNetV2B3", "efficientnet_v2", "none", 300, 32, "top_activation", 1536, _DROP),
    BackboneEntry("EfficientNetV2L", "efficientnet_v2", "none", 480, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetV2M", "efficientnet_v2", "none", 480, 32, "top_activation", 1280, _DROP),
    BackboneEntry("EfficientNetV2S", "efficientnet_v2", "none", 384, 32, "top_activation", 1280, _DROP),
    BackboneEntry("InceptionResNetV2", "inception_resnet_v2", "tf", 299, 75, "conv_7b_ac", 1536, _POOL),
    BackboneEntry("InceptionV3", "inception_v3", "tf", 299, 75, "mixed10", 2048, _POOL),
    BackboneEntry(
        "MobileNet",
        "mobilenet",
        "tf",
        224,
        32,
        "conv_pw_13_relu",
        1024,
        ("global_average_pooling2d", "dropout", "conv_preds", "reshape", "predictions"),
    ),
    BackboneEntry("MobileNetV2", "mobilenet_v2", "tf", 224, 32, "out_relu", 1280, _NASNET),
    BackboneEntry(
        "MobileNetV3Large",
        "mobilenet_v3",
        "none",
        224,
        32,
        "activation_19",
        960,
        ("global_average_pooling2d", "conv_2", "activation_20", "dropout", "logits", "flatten", "predictions"),
    ),
    BackboneEntry(
        "MobileNetV3Small",
        "mobilenet_v3",
        "none",
        224,
        32,
        "activation_17",
        576,
        ("global_average_pooling2d", "conv_2", "activation_18", "dropout", "logits", "flatten", "predictions"),
    ),
    BackboneEntry("NASNetLarge", "nasnet", "tf", 331, 32, "activation_259", 4032, _NASNET),
    BackboneEntry("NASNetMobile", "nasnet", "tf", 224, 32, "activation_187", 1056, _NASNET),
    BackboneEntry("ResNet101", "resnet", "caffe", 224, 32, "conv5_block3_out", 2048, _POOL),
    BackboneEntry("ResNet101V2", "resnet_v2", "tf", 224, 32, "post_relu", 2048, _POOL),
    BackboneEntry("ResNet152", "resnet", "caffe", 224, 32, "conv5_block3_out", 2048, _POOL),
    BackboneEntry("ResNet152V2", "resnet_v2", "tf", 224, 32, "post_relu", 2048, _POOL),
    BackboneEntry("ResNet50", "resnet", "caffe", 224, 32, "conv5_block3_out", 2048, _POOL),
    BackboneEntry("ResNet50V2", "resnet_v2", "tf", 224, 32, "post_relu", 2048, _POOL),
    BackboneEntry("VGG16", "vgg16", "caffe", 224, 32, "block5_pool", 512, _VGG),
    BackboneEntry("VGG19", "vgg19", "caffe", 224, 32, "block5_pool", 512, _VGG),
    BackboneEntry("Xception", "xception", "tf", 299, 71, "block14_sepconv2_act", 2048, _POOL),
)

BACKBONES: dict[str, BackboneEntry] = {row.name: row for row in _ROWS}

# family -> SPDX identifier of the licence under which its ImageNet weights were published, by those that Keras has them
# from (or, where Keras trained them, by Keras); that of the VGG networks is "Creative Commons Attribution"
WEIGHTS_LICENSES: dict[str, str] = {
    "featx": "Apache-2.0",
    "convnext": "MIT",
    "densenet": "BSD-3-Clause",
    "efficientnet": "Apache-2.0",
    "efficientnet_v2": "Apache-2.0",
    "inception_resnet_v2": "Apache-2.0",
    "inception_v3": "Apache-2.0",
    "mobilenet": "Apache-2.0",
    "mobilenet_v2": "Apache-2.0",
    "mobilenet_v3": "Apache-2.0",
    "nasnet": "Apache-2.0",
    "resnet": "MIT",
    "resnet_v2": "BSD-3-Clause",
    "vgg16": "CC-BY-4.0",
    "vgg19": "CC-BY-4.0",
    "xception": "MIT",
}
