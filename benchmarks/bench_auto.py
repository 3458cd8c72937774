"""What `--clf auto` gains by the radial kernel and by all outputs side by side, on images that chose nothing.

    python benchmarks/bench_auto.py FOLDER [--backbone EfficientNetLite0 --input-size 128] [--layer NAME ...]

FOLDER has a folder of photographs for each class; a share of them is held back. Both sides are chosen by the same folds
of the same training images: the best that `auto` has tried, and the best among what it tried without the radial kernel
and without all outputs side by side, as it was until those came. The rival is fitted as the search found it, and both
are compared on the images held back, image by image: the interval is of the difference between the shares of right
ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAYERS = ("block3b_add", "block4c_add", "block5b_add", "block5c_add", "block6d_add", "top_activation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--input-size", default="128")
    parser.add_argument("--layer", nargs="+", default=list(LAYERS))
    parser.add_argument("--seeds", nargs="+", default=["0"], help="seeds of the split; each is a comparison of its own")
    parser.add_argument(
        "--train", type=float, default=0.5, help="the share that is fitted on; all others are held back"
    )
    parser.add_argument("--cache", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [compare(arguments, folder, seed) for seed in arguments.seeds]
    print(json.dumps(found, indent=2))


def compare(arguments: argparse.Namespace, folder: str, seed: str) -> dict[str, Any]:
    """What auto chooses now, and what it chose before, on one split."""
    network = ["--backbone", arguments.backbone, "--weights", arguments.weights, "--input-size", arguments.input_size]
    shared = [
        arguments.folder,
        *network,
        "--split",
        f"{arguments.train},0,{1 - arguments.train}",
        "--set",
        f"data.seed={seed}",
        "--no-html",
    ]
    shared += ["--cache", arguments.cache or f"{folder}/cache", "--runs", f"{folder}/runs"]
    layers = [word for name in arguments.layer for word in ("--layer", name)]
    made = featx("fit-head", *shared, *layers, "--clf", "auto", "--name", f"auto-{seed}")
    manifest = json.loads((Path(made["bundle"]) / "bundle.json").read_text())
    tried = [{"outputs": title.split(" + "), **one} for title, ones in manifest["search"].items() for one in ones]
    old = best(tried, lambda one: "gamma" not in one["params"] and len(one["outputs"]) < len(arguments.layer))
    rival = refit(old, shared, f"before-{seed}")
    runs = ["--set", f"report.runs={folder}/runs"]
    both = featx("evaluate", made["bundle"], "--against", rival, "--data", arguments.folder, "--split", "test", *runs)
    now = {"clf": made["clf"], "outputs": made["output"], "params": made["params"]}
    kernel = best(tried, lambda one: "gamma" in one["params"] and len(one["outputs"]) == len(arguments.layer))
    return {
        "now": now,
        "before": old,
        "kernel on all outputs": kernel,
        "against": both["against"],
        "notes": made["notes"],
    }


def best(tried: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The candidate of the highest score among those wanted, the first of equals."""
    return max(filter(wanted, tried), key=lambda one: float(one["score"]))


def refit(one: dict[str, Any], shared: list[str], name: str) -> str:
    """The folder of a bundle of one candidate."""
    layers = [word for output in one["outputs"] for word in ("--layer", output)]
    strength = one["params"].get("C", one["params"].get("neighbours"))
    head = ["--clf", one["clf"], *(["--strength", str(strength)] if strength else [])]
    return str(featx("fit-head", *shared, *layers, "--combine", "all", *head, "--name", name)["bundle"])


def featx(*words: str) -> Any:
    """What a command prints with --json."""
    done = subprocess.run([sys.executable, "-m", "featx", *words, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
