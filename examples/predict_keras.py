"""Predict with Keras alone, from an unmodified bundle: python predict_keras.py BUNDLE IMAGE...

BUNDLE is a folder of `runs/`, or a .featx file unpacked with `featx bundle unpack`. No export is needed: the network is
a `.keras` file, and the head is plain arrays or a `.keras` file as well. It needs no featx: pip install keras numpy
pillow tensorflow
"""

import json
import sys

import keras
import numpy as np
from reading import answer, read_image


def read_arrays(path):
    """The arrays of an npz file by name."""
    with np.load(path) as file:
        return dict(file)


def load(folder, about):
    """A function from images uint8 (1, height, width, 3) to probabilities (classes,)."""
    head, files = about["head"], about["files"]
    if head["kind"] == "estimator" or "calibration.npz" in files:
        sys.exit(f"{folder} has a head of scikit-learn or curves for its confidence; featx export writes the latter.")
    backbone = keras.saving.load_model(f"{folder}/backbone.keras", compile=False)
    front = read_arrays(f"{folder}/front.npz") if "front.npz" in files else {"unit": False}
    if head["kind"] == "network":
        dense = keras.saving.load_model(f"{folder}/head.keras", compile=False)
    else:
        linear = read_arrays(f"{folder}/head.npz")  # the temperature is folded into it

    def run(images):
        maps = backbone(images.astype(np.float32), training=False)
        maps = maps if isinstance(maps, dict) else {about["outputs"][0]: maps}
        features = np.concatenate([np.asarray(maps[name]).reshape(1, -1) for name in about["outputs"]], axis=1)
        if front["unit"]:
            features = features / max(np.linalg.norm(features), 1e-12)
        if "components" in front:
            features = (features - front["mean"]) @ front["components"].T
        if head["kind"] == "network":
            logits = np.asarray(dense(features, training=False))[0] / head["temperature"]
        else:
            logits = (features @ linear["kernel"] + linear["bias"])[0]
        if about["multilabel"]:
            return 1 / (1 + np.exp(-logits))
        probabilities = np.exp(logits - logits.max())
        return probabilities / probabilities.sum()

    return run


folder, *paths = sys.argv[1:]
with open(f"{folder}/bundle.json", encoding="utf-8") as file:
    about = json.load(file)
height, width = about["backbone"]["input_size"]
thresholds = dict(zip(about["classes"], about["thresholds"], strict=True)) if about["multilabel"] else None
model = load(folder, about)
for path in paths:
    images = read_image(path, height, width, about["backbone"]["resize"])
    print(f"{path}  {answer(model(images), about['classes'], thresholds)}")
