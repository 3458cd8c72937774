"""Several layers and poolings in one pass, against the deepest of them alone.

    python benchmarks/bench_layers.py [--backbones InceptionV3 EfficientNetLite0] [--images 500] [--rounds 3]

Both are whole extractions, files in and HDF5 out, with graphs that were converted before. The ratio of the seconds that
went into inference alone is judged as well: decoding, which both share, would hide what the layers cost.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import compare, report, write_photos

SETTINGS = {  # backbone: (input size, outputs, the deepest first)
    "InceptionV3": (150, ("mixed7@avg", "mixed7@max", "mixed5@avg", "mixed4@avg", "mixed2@grid:4")),
    "EfficientNetLite0": (224, ("top_activation@avg", "top_activation@max", "block5b_add@avg", "block3b_add@grid:4")),
}
GOAL = 1.1


def featx_way(backbone: str, count: int, folder: str) -> dict[str, Any]:
    """Extract the first `count` outputs."""
    from featx.config import DataOptions, FeaturesOptions
    from featx.dataset import read_images
    from featx.extraction.flow import extract
    from featx.store.cache import Cache

    size, outputs = SETTINGS[backbone]
    with tempfile.TemporaryDirectory() as cache:
        weights = "random" if backbone != "EfficientNetLite0" else "auto"
        options = FeaturesOptions(
            backbone=backbone, weights=weights, layer=outputs[:count], input_size=size, cache=cache
        )
        with Cache(cache) as opened:
            extract(read_images(str(Path(folder).parent / "warm"), DataOptions()), options, opened)
            done = extract(read_images(folder, DataOptions()), options, opened)
        return {"seconds": done.seconds, "images_per_second": done.computed / done.seconds, **asdict(done.stages)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = str(Path(root) / "photos")
        write_photos(Path(folder), arguments.images, (500, 400))
        write_photos(Path(root) / "warm", 16, (500, 400), seed=1)
        cases: dict[str, Any] = {}
        for backbone in arguments.backbones:
            outputs = SETTINGS[backbone][1]
            cases[f"{backbone}, {outputs[0]}"] = (featx_way, (backbone, 1, folder))
            cases[f"{backbone}, {len(outputs)} outputs"] = (featx_way, (backbone, len(outputs), folder))
        results = compare(cases, arguments.rounds)
    goals = {}
    for backbone in arguments.backbones:
        outputs = SETTINGS[backbone][1]
        several, deepest = results[f"{backbone}, {len(outputs)} outputs"], results[f"{backbone}, {outputs[0]}"]
        name = f"{backbone}: {len(outputs)} outputs / the deepest alone"
        goals[f"{name}, seconds"] = (GOAL, several["seconds"] / deepest["seconds"], "max")
        goals[f"{name}, seconds of inference"] = (GOAL, several["infer"] / deepest["infer"], "max")
    notes = [f"{backbone}: {', '.join(SETTINGS[backbone][1])}." for backbone in arguments.backbones]
    claim = f"Several layers and poolings in one pass over {arguments.images} JPEG files of 500x400"
    report(claim, results, goals, notes=notes)


if __name__ == "__main__":
    main()
