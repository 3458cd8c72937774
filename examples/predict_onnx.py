"""Predict with ONNX Runtime: python predict_onnx.py FOLDER IMAGE...

FOLDER is what `featx export --format onnx` wrote. It needs no featx: pip install numpy onnxruntime pillow
"""

import json
import sys

import onnxruntime
from reading import answer, read_image

folder, *paths = sys.argv[1:]
with open(f"{folder}/model.json", encoding="utf-8") as file:
    about = json.load(file)
_, height, width, _ = about["input"]["shape"]
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
for path in paths:
    images = read_image(path, height, width, about["resize"]["rule"])
    probabilities = session.run(["probabilities"], {"images": images})[0][0]
    print(f"{path}  {answer(probabilities, about['classes'], about['thresholds'])}")
