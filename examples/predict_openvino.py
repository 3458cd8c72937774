"""Predict with OpenVINO: python predict_openvino.py FOLDER IMAGE...

FOLDER is what `featx export --format openvino` wrote. It needs no featx: pip install numpy openvino pillow
"""

import json
import sys

import openvino
from reading import answer, read_image

folder, *paths = sys.argv[1:]
with open(f"{folder}/model.json", encoding="utf-8") as file:
    about = json.load(file)
_, height, width, _ = about["input"]["shape"]
model = openvino.compile_model(f"{folder}/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for path in paths:
    images = read_image(path, height, width, about["resize"]["rule"])
    probabilities = model({"images": images})["probabilities"][0]
    print(f"{path}  {answer(probabilities, about['classes'], about['thresholds'])}")
