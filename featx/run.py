"""The stages in order, each done only when it is out of date: extract -> split -> fit -> fine-tune."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.runtime import limit_gpu_memory
from featx.bundle import Bundle, best_bundle, list_bundles, load_bundle, read_split, write_split
from featx.dataset import NONE, SPLITS, TRAIN, ImageSet, conflicts, digest_images, read_images, split_images
from featx.dataset.digests import whole
from featx.errors import DataError, UsageError
from featx.extract import Extraction, extract
from featx.files import StatIndex, digest_json, write_json
from featx.options import DataOptions, Pipeline, parse_share
from featx.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_of
from featx.store import export_features
from featx.train import Sample, fingerprint, fit_head, require_fittable

_KEPT = "split.npz"


@dataclass(frozen=True)
class Prepared:
    """Images with features and a split: what every later stage starts from."""

    pipeline: Pipeline
    extraction: Extraction
    sample: Sample
    run: Path


def read_data(pipeline: Pipeline) -> ImageSet:
    """The images that the pipeline's data section names."""
    if pipeline.data.path is None:
        raise DataError("No images: name a folder or CSV, or a pipeline file with data.path (-p FILE).")
    return read_images(pipeline.data.path, pipeline.data)


def run_directory(pipeline: Pipeline, images: ImageSet | None = None) -> Path:
    """Where results go: `<runs>/<name of the pipeline or the data>`."""
    name = pipeline.report.name or (images.name if images else "default")
    return Path(pipeline.report.runs) / name


def choose_images(pipeline: Pipeline, images: ImageSet) -> ImageSet:
    """The images whose features are wanted: all of them, or with `max_train` those that are in a part of the split."""
    if pipeline.data.max_train is None:
        return images
    digests = digest_images(images.paths, StatIndex(Path(pipeline.features.cache) / "index.sqlite"))
    split = split_of_run(images, digests.digest, digests.usable, pipeline.data, run_directory(pipeline, images))
    return images.take(np.flatnonzero((split != NONE) | ~digests.usable))


def prepare(pipeline: Pipeline, progress: Progress = no_progress) -> Prepared:
    """Extract, and split the images as the last run of this name did; new images join the parts."""
    limit_gpu_memory(parse_share(pipeline.finetune.gpu_memory))
    images = read_data(pipeline)
    require_fittable(images)
    extraction = extract(choose_images(pipeline, images), pipeline.features, progress)
    run = run_directory(pipeline, extraction.images)
    split = split_of_run(extraction.images, extraction.digests, extraction.readable, pipeline.data, run)
    return Prepared(pipeline, extraction, Sample.of(extraction.images, extraction.digests, split), run)


def split_of_run(
    images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions, run: Path
) -> np.ndarray:
    """The split uint8 (n,), kept in `run` by digest, so that a rename or more images never move an image.

    Other shares or another seed begin anew.
    """
    terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
    folder = run / "split"
    kept: dict[bytes, int] = {}
    if (folder / "terms.json").exists() and terms in (folder / "terms.json").read_text():
        kept = read_split(folder / _KEPT)
    split = split_images(images, digests, readable, options, kept)
    placed = split != NONE
    now = {whole(d): int(code) for d, code in zip(digests[placed], split[placed], strict=True)}
    if now.items() - kept.items():
        merged = kept | now
        write_split(folder / _KEPT, np.array(list(merged), "S32"), np.array(list(merged.values()), np.uint8))
        write_json(folder / "terms.json", {"terms": terms})
    return split


def fit(prepared: Prepared, command: str = "", tell: Tell = say_nothing) -> Bundle:
    """Fit the head of the pipeline and save it as a bundle."""
    pipeline = prepared.pipeline
    return fit_head(
        prepared.extraction, prepared.sample, pipeline.head, pipeline.data.seed, prepared.run, command, tell, pipeline
    )


def regraft(bundle: Bundle, prepared: Prepared, command: str = "", tell: Tell = say_nothing) -> Bundle:
    """The bundle that a fine-tune starts from: the given one, or, with `finetune.regraft`, one that can be grafted.

    Where the head is no network, logistic regression is fitted on the same features and split, weighed alike, and saved
    as a bundle of its own; one that was fitted before is taken.

    Raises
    ------
    UsageError
        The bundle has other features than the pipeline's.
    """
    from featx.finetune import is_graftable

    if is_graftable(bundle) or not prepared.pipeline.finetune.regraft:
        return bundle
    extraction = prepared.extraction
    missing = [name for name in bundle.about["outputs"] if name not in {output.name for output in extraction.outputs}]
    if missing or digest_json(bundle.about["key"]) != digest_json(extraction.store.key.as_json()):
        raise UsageError(
            f"--regraft fits on the features of {bundle.path}, and those of this pipeline are others. Give the options "
            f"that it was fitted with; its layers: {', '.join(bundle.about['outputs'])}."
        )
    about = bundle.about["head"]
    components = bundle.front.components
    head = replace(
        prepared.pipeline.head,
        clf="logreg",
        estimator=None,
        grid=None,
        strength=None,
        combine="all",
        normalize="l2" if bundle.front.unit else "none",
        pca=None if components is None else float(len(components)),
        metric=bundle.about["score"]["metric"],
        class_weight=about.get("class_weight", "none"),
        positive_weight=about.get("positive_weight", 1.0),
    )
    again = replace(
        prepared,
        extraction=replace(extraction, outputs=bundle.outputs),
        pipeline=replace(prepared.pipeline, head=head),
    )
    path = fitted_before(again)
    tell(f"{bundle.path} is no network: logistic regression on its features takes its place")
    return load_bundle(path) if path else fit(again, command, tell)


def fitted_before(prepared: Prepared) -> Path | None:
    """The bundle that `fit` would make again, if there is one."""
    pipeline = prepared.pipeline
    wanted = fingerprint(prepared.extraction, prepared.sample, pipeline.head, pipeline.data.seed)
    return _made_before(prepared.run, wanted)


def _made_before(run: Path, wanted: str) -> Path | None:
    made = [about["path"] for about in list_bundles(run) if about.get("fingerprint") == wanted]
    return made[-1] if made else None


def run_pipeline(
    pipeline: Pipeline, command: str = "", progress: Progress = no_progress, tell: Tell = say_nothing
) -> dict[str, Any]:
    """Bring every stage up to date and say why each was run or not.

    Returns
    -------
    dict
        stages [{stage, done, why}], bundle: the best one's path, report: its page (None without one)
    """
    from featx.finetune import finetune, tuned_fingerprint

    prepared = prepare(pipeline, progress)
    done = prepared.extraction
    for note in done.images.notes:
        tell(note)
    stages = [_stage("extract", done.computed > 0, f"{done.computed} images computed, {done.reused} reused")]
    path = fitted_before(prepared)
    stages.append(
        _stage("fit-head", path is None, f"up to date: {path}" if path else "no bundle of these features and options")
    )
    tell(stages[-1]["why"])
    bundle = load_bundle(path) if path else fit(prepared, command, tell)
    if not pipeline.finetune.enabled:
        stages.append(_stage("finetune", False, "finetune.enabled is false"))
    else:
        bundle = regraft(bundle, prepared, command, tell)
        wanted = tuned_fingerprint(bundle, pipeline.finetune, pipeline.data.seed)
        path = _made_before(prepared.run, wanted)
        why = f"up to date: {path}" if path else "this bundle was not fine-tuned with these options"
        stages.append(_stage("finetune", path is None, why))
        if path is None:
            finetune(bundle, prepared, command, progress, tell)
    best = best_bundle(prepared.run)
    report = report_of(best)
    return {"stages": stages, "bundle": str(best), "report": report and str(report)}


def _stage(name: str, done: bool, why: str) -> dict[str, Any]:
    return {"stage": name, "done": done, "why": why}


def images_of_part(pipeline: Pipeline, bundle: Bundle, part: str) -> tuple[ImageSet, list[str]]:
    """The images of one part ("train", "val", "test", "all"), each different one once, and what is worth noting.

    The parts are the bundle's own, by content; images it has not seen belong to none but "all".
    """
    images = read_data(pipeline)
    if images.labels is None:
        raise DataError(f"{images.source} has no labels to measure against. featx predict needs none.")
    digests = digest_images(images.paths, StatIndex(Path(pipeline.features.cache) / "index.sqlite"))
    known = bundle.split()
    codes = np.array([known.get(whole(digest), NONE) for digest in digests.digest], np.uint8)
    _, first = np.unique(digests.digest, return_index=True)
    different = np.zeros(len(images), bool)
    different[first] = True
    torn = [row for rows in conflicts(images, np.where(digests.usable, digests.digest, b"")) for row in rows]
    different[torn] = False
    notes = [f"{images.paths[row]}: {reason}" for row, reason in sorted(digests.bad.items())]
    if torn:
        notes.append(f"{len(torn)} files have the bytes of another under a different label: left out. See featx check.")
    if part == "all":
        seen = int((codes == TRAIN).sum())
        if seen:
            notes.append(f"{seen} of these images were trained on: the figures flatter the model.")
        wanted = different & digests.usable
    else:
        wanted = different & (codes == SPLITS.index(part))
        if not wanted.any():
            raise DataError(
                f"None of the {len(images)} images of {images.source} is in the part {part!r} of {bundle.path}. "
                "Choose another --split, or all."
            )
    return images.take(np.flatnonzero(wanted)), notes


def export_prepared(prepared: Prepared, out: Path) -> tuple[int, ...]:
    """Write the features of the first layer and pooling with labels, paths, classes and split; returns their shape."""
    extraction, sample = prepared.extraction, prepared.sample
    if len(extraction.outputs) > 1:
        names = ", ".join(output.name for output in extraction.outputs)
        raise UsageError(f"One file holds one layer and pooling, there are {names}. Choose with --layer and --pooling.")
    features = extraction.features(extraction.outputs[0], sample.rows)
    columns = {
        "paths": [extraction.images.paths[row] for row in sample.rows],
        "classes": list(extraction.images.classes),
        "split": [SPLITS[code] for code in sample.split],
    }
    about = {"output": extraction.outputs[0].name, "key": extraction.store.key.as_json()}
    export_features(out, features, sample.y, columns, about)
    return features.shape
