"""Fine-tuning on cached maps against fine-tuning the whole network with the same layers frozen, per epoch.

    python benchmarks/bench_from_cache.py [--only VGG16] [--steps 6] [--epochs 3] [--rounds 3]

Both are `featx finetune` on JPEG files of 500x400 with random weights: the same images in the same order, the same
layers in training, the same head. What is judged is the seconds of an epoch, its validation included on both sides, as
the median over all epochs but the first, in which the step is traced. Extraction of the maps is not in it: it takes one
pass through the layers below, which is reported beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import compare, in_process, report, write_photos

CASES = {  # name: (backbone, input size, layer, batch size, goal)
    "InceptionV3-32": ("InceptionV3", 150, "mixed7", 32, 0.55),
    "InceptionV3-128": ("InceptionV3", 150, "mixed7", 128, 0.45),
    "VGG16": ("VGG16", 224, "block4_pool", 32, 0.3),
}
LAST = {"InceptionV3": "mixed10", "VGG16": "block5_pool"}
VAL = 0.1


def _pipeline(name: str, root: str, epochs: int = 1) -> Any:
    from featx.config import DataOptions, FeaturesOptions, FinetuneOptions, HeadOptions, Pipeline, ReportOptions

    backbone, side, layer, batch, _ = CASES[name]
    return Pipeline(
        data=DataOptions(path=f"{root}/{name}", split=(1 - VAL, VAL, 0.0)),
        features=FeaturesOptions(
            backbone=backbone,
            weights="random",
            input_size=side,
            layer=(LAST[backbone], f"{layer}@none"),
            cache=f"{root}/cache",
        ),
        head=HeadOptions(strength=0.01),
        finetune=FinetuneOptions(epochs=epochs, batch_size=batch, patience=epochs),
        report=ReportOptions(runs=f"{root}/runs", name=name, html=False),
    )


def prepare(name: str, root: str) -> dict[str, Any]:
    """Extract the features of the head and the maps in one pass, and fit the head."""
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare as extract
    from featx.workflow.publish import publish_head

    pipeline = _pipeline(name, root)
    with Cache(pipeline.features.cache) as cache:
        prepared = extract(pipeline, cache)
    bundle = publish_head(prepared)
    return {"bundle": str(bundle.path), "seconds": prepared.extraction.seconds}


def finetune(name: str, root: str, bundle: str, epochs: int, from_cache: bool) -> dict[str, Any]:
    """Seconds of an epoch, the first left out."""
    from featx.bundle.bundle import load_bundle
    from featx.finetune.flow import graft
    from featx.runs.run import Run
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare as extract
    from featx.workflow.publish import publish_finetuned

    pipeline, layer = _pipeline(name, root, epochs), CASES[name][2]
    start = load_bundle(Path(bundle))
    if from_cache:
        options = replace(pipeline.finetune, from_cache=layer)
    else:
        names = [one.name for one in graft(start).layers]
        options = replace(pipeline.finetune, unfreeze=names[names.index(layer) + 1])
    with tempfile.TemporaryDirectory() as run, Cache(pipeline.features.cache) as cache:
        prepared = replace(extract(replace(pipeline, finetune=options), cache), run=Run(Path(run)))
        tuned = publish_finetuned(start, prepared)
    history = [epoch.values for epoch in tuned.manifest.history]
    later = [epoch["seconds"] or 0.0 for epoch in history[1:]]
    return {"seconds": statistics.median(later), "loss of the last epoch": history[-1]["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=6, help="Of an epoch.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs must be at least 2: the first is not measured.")
    with tempfile.TemporaryDirectory() as root:
        cases: dict[str, Any] = {}
        extracting = {}
        for name in arguments.only:
            images = round(arguments.steps * CASES[name][3] / (1 - VAL))
            write_photos(Path(root) / name, images, (500, 400))
            made = in_process(prepare, (name, root))
            extracting[name] = made["seconds"]
            for way, cached in (("the whole network", False), ("from cache", True)):
                cases[f"{name}, {way}"] = (finetune, (name, root, made["bundle"], arguments.epochs, cached))
        results = compare(cases, arguments.rounds)
    goals, figures = {}, {}
    for name in arguments.only:
        _, _, _, batch, goal = CASES[name]
        ours, theirs = results[f"{name}, from cache"], results[f"{name}, the whole network"]
        goals[f"{_title(name)}: from cache / the whole network, seconds of an epoch"] = (
            goal,
            ours["seconds"] / theirs["seconds"],
            "max",
        )
        figures[f"{name}: extracting the maps and the features of the head once, seconds"] = extracting[name]
        figures[f"{name}: loss of the last epoch, from cache - the whole network"] = (
            ours["loss of the last epoch"] - theirs["loss of the last epoch"]
        )
        figures[f"{name}: from cache, ms per image"] = ours["seconds"] * 1000 / (arguments.steps * batch)
    claim = f"Fine-tuning the layers above a cached one, {arguments.steps} steps and a validation per epoch"
    report(claim, results, goals, figures)


def _title(name: str) -> str:
    backbone, side, layer, batch, _ = CASES[name]
    return f"{backbone} {side}x{side} above {layer}, batches of {batch}"


if __name__ == "__main__":
    main()
