"""Writes `first_hour.ipynb` beside this file: runs its cells and keeps their output (nbformat 4, without Jupyter).

python examples/write_notebook.py
"""

from __future__ import annotations

import ast
import io
import json
import os
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("first_hour.ipynb")
_STORY = """
# The first hour in Python

From a folder of images to a model: check the data, fit a head on features that are computed once, measure it, and use
it. The images are scikit-learn's handwritten digits, twelve of each.
#---
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import featx

digits = load_digits()
for label in range(10):
    Path(f"digits/{label}").mkdir(parents=True, exist_ok=True)
    for number in np.flatnonzero(digits.target == label)[:12]:
        pixels = (digits.images[number] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(f"digits/{label}/{number:04d}.png")
#---
Are all files readable, and is each image in one class?
#---
found = featx.check("digits")
found.readable, found.unreadable, found.conflicts
#---
The network runs once for each image; a second call reads the features from the cache.
#---
options = {"layer": "block3b_add", "input_size": 96}
featx.extract("digits", **options)
#---
The second call:
#---
featx.extract("digits", **options)
#---
A head takes seconds, so try several. With so few test images, the intervals of the scores are wide.
#---
model = featx.fit_head("digits", clf="logreg", html=False, **options)
model
#---
Predict the images of a folder.
#---
answers = model.predict("digits/7", top=2)
answers
#---
Which regions of an image support its class? The map has a value for each location.
#---
image = min(Path("digits/7").glob("*.png"))
why = model.explain(image)[0]
why.label, why.method, why.classes[0].map.shape
#---
Which images are most like this 3, by the model's features?
#---
query = min(Path("digits/3").glob("*.png"))
[near.label for near in model.similar(query, "digits", top=5).found[0].similar]
"""
_KINDS = ("markdown", "code")  # which take turns
CELLS = [(_KINDS[place % 2], text.strip("\n")) for place, text in enumerate(_STORY.split("#---"))]


def run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run a cell and return its outputs: what it prints, and the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        exec(compile(tree, f"<cell {number}>", "exec"), names)  # noqa: S102 - the cells above
        value = None
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            html = value._repr_html_().replace(f"{Path.cwd()}{os.sep}", "")  # the folder is gone when this is read
            data["text/html"] = _lines(html)
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return outputs


def notebook() -> dict[str, Any]:
    """The notebook, run in the working directory."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells: list[dict[str, Any]] = []
    number = 0
    for place, (kind, source) in enumerate(CELLS):
        cell: dict[str, Any] = {"id": f"cell-{place}", "cell_type": kind, "metadata": {}, "source": _lines(source)}
        if kind == "code":
            number += 1
            cell |= {"execution_count": number, "outputs": run_cell(source, names, number)}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        made = notebook()
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
