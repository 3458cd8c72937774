"""Predict with LiteRT, formerly TensorFlow Lite: python predict_litert.py FOLDER IMAGE...

FOLDER is what `featx export --format litert` wrote. It needs no featx: pip install ai-edge-litert numpy pillow
"""

import json
import sys

from ai_edge_litert.interpreter import Interpreter
from reading import answer, read_image

folder, *paths = sys.argv[1:]
with open(f"{folder}/model.json", encoding="utf-8") as file:
    about = json.load(file)
_, height, width, _ = about["input"]["shape"]
model = Interpreter(f"{folder}/model.tflite").get_signature_runner()
for path in paths:
    images = read_image(path, height, width, about["resize"]["rule"])
    probabilities = model(images=images)["probabilities"][0]
    print(f"{path}  {answer(probabilities, about['classes'], about['thresholds'])}")
