"""Predict with TensorFlow: python predict_savedmodel.py FOLDER IMAGE...

FOLDER is what `featx export --format savedmodel` wrote. It needs no featx: pip install numpy pillow tensorflow
"""

import json
import sys

import tensorflow as tf
from reading import answer, read_image

folder, *paths = sys.argv[1:]
with open(f"{folder}/model.json", encoding="utf-8") as file:
    about = json.load(file)
_, height, width, _ = about["input"]["shape"]
model = tf.saved_model.load(f"{folder}/model")
for path in paths:
    images = read_image(path, height, width, about["resize"]["rule"])
    probabilities = model.signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy()[0]
    print(f"{path}  {answer(probabilities, about['classes'], about['thresholds'])}")
