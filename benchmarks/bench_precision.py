"""What lower precision costs a head: test accuracy by the precision of the network and that of stored features.

    python benchmarks/bench_precision.py [--weights FILE --fashion-mnist DIR] [--max-train 20000]

EfficientNetLite0 with its bundled weights on scikit-learn's digits; with `--weights` also InceptionV3 to `mixed7` on
Fashion-MNIST, whose official test images are measured. Every case is a whole run of featx: extraction into an empty
cache, logistic regression with its search, accuracy on the test part.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from harness import compare, in_process, report

PRECISIONS, STORAGES = ("float32", "bfloat16"), ("float32", "float16")
FASHION = "InceptionV3 mixed7 on Fashion-MNIST"
DIGITS = "EfficientNetLite0 block3b_add on digits"


def write_data(root: str, fashion_mnist: str) -> dict[str, Any]:
    from featx.dataset.digits import write_digits
    from featx.dataset.fashion_mnist import write_fashion_mnist

    written = {"digits": write_digits(Path(root) / "digits")}
    if fashion_mnist:
        written["fashion"] = write_fashion_mnist(Path(fashion_mnist), Path(root) / "fashion")
    return written


def has_bfloat16() -> dict[str, Any]:
    from featx.engines.choice import choose_engine, effective_precision
    from featx.errors import EngineError

    try:
        effective_precision(choose_engine("auto"), "bfloat16")
    except EngineError as error:
        return {"reason": str(error)}
    return {"reason": ""}


def accuracy(root: str, weights: str, max_train: int, precision: str, storage: str) -> dict[str, Any]:
    """One run: InceptionV3 on Fashion-MNIST where `weights` are given, else EfficientNetLite0 on the digits."""
    from featx.config import DataOptions, FeaturesOptions, HeadOptions, Pipeline, ReportOptions
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare
    from featx.workflow.publish import publish_head

    with tempfile.TemporaryDirectory() as work:
        common: dict[str, Any] = {"precision": precision, "storage": storage, "cache": f"{work}/cache"}
        if weights:
            data = DataOptions(path=f"{root}/fashion", split=(0.95, 0.05, 0.0), max_train=max_train)
            features = FeaturesOptions("InceptionV3", weights, layer=("mixed7",), input_size=150, **common)
        else:
            data = DataOptions(path=f"{root}/digits", split=(0.65, 0.1, 0.25), max_train=max_train)
            features = FeaturesOptions(layer=("block3b_add",), input_size=64, **common)
        head, report = HeadOptions(clf="logreg"), ReportOptions(runs=f"{work}/runs")
        pipeline = Pipeline(data=data, features=features, head=head, report=report)
        with Cache(pipeline.features.cache) as cache:
            prepared = prepare(pipeline, cache)
        done, test = prepared.extraction, publish_head(prepared).manifest.metrics_on("test")
        return {
            "seconds": done.seconds,
            "images_per_second of inference": done.computed / done.stages.infer,
            "test accuracy": test.get("accuracy"),
            "test images": test.images,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="", help="Trained weights of InceptionV3 without its top.")
    parser.add_argument("--fashion-mnist", default="", help="Folder of the four published files.")
    parser.add_argument("--max-train", type=int, default=20_000)
    arguments = parser.parse_args()
    fashion = bool(arguments.weights and arguments.fashion_mnist)
    notes = [] if fashion else ["InceptionV3 was left out: it takes --weights and --fashion-mnist."]
    reason = in_process(has_bfloat16)["reason"]
    precisions = PRECISIONS[:1] if reason else PRECISIONS
    notes += [f"bfloat16 was left out. {reason}"] if reason else []
    with tempfile.TemporaryDirectory() as root:
        in_process(write_data, (root, arguments.fashion_mnist if fashion else ""))
        cases: dict[str, Any] = {}
        sets = {DIGITS: ""} | ({FASHION: os.path.abspath(arguments.weights)} if fashion else {})
        for name, weights in sets.items():
            for precision in precisions:
                for storage in STORAGES:
                    words = (root, weights, arguments.max_train, precision, storage)
                    cases[f"{name}: {precision} inference, {storage} stored"] = (accuracy, words)
        results = compare(cases, rounds=1)  # the accuracy of a run is the same every time
    figures = {}
    for name in sets:
        best = results[f"{name}: float32 inference, float32 stored"]["test accuracy"]
        for case, found in results.items():
            if case.startswith(name):
                figures[f"{case}: accuracy lost, points"] = 100 * (best - found["test accuracy"])
    report("What lower precision costs a head, with trained weights", results, {}, figures, notes)


if __name__ == "__main__":
    main()
