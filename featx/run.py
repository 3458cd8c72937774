"""The stages in order, each done only when it is out of date: extract -> split -> fit -> fine-tune."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.augment import Augmenter
from featx.backbones.runtime import limit_gpu_memory
from featx.bundle import Bundle, best_bundle, list_bundles, load_bundle, read_split, write_split
from featx.dataset import NONE, SPLITS, TRAIN, ImageSet, conflicts, digest_images, read_images, split_images
from featx.dataset.digests import whole
from featx.errors import DataError, UsageError
from featx.extraction import Extraction, extract, plan
from featx.files import StatIndex, digest_json, write_json
from featx.options import DataOptions, Pipeline, parse_share
from featx.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_of
from featx.store import export_features
from featx.tracking import require_tracker
from featx.train import Sample, fingerprint, fit_head, require_fittable
from featx.views import Views, extract_views, plan_views

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


def prepare(pipeline: Pipeline, progress: Progress = no_progress, views: bool = True) -> Prepared:
    """Extract, and split the images as the last run of this name did; new images join the parts.

    views : whether the views that the pipeline asks for are extracted, too, for a head to be fitted on
    """
    require_tracker(pipeline.tracking)
    limit_gpu_memory(parse_share(pipeline.finetune.gpu_memory))
    images = read_data(pipeline)
    require_fittable(images)
    extraction = extract(choose_images(pipeline, images), pipeline.features, progress)
    run = run_directory(pipeline, extraction.images)
    split = split_of_run(extraction.images, extraction.digests, extraction.readable, pipeline.data, run)
    sample = Sample.of(extraction.images, extraction.digests, split)
    if views and pipeline.augment.views:
        made = extract_views(extraction, sample.train_rows, augmenter_of(pipeline), pipeline.augment.views, progress)
        sample = replace(sample, views=made)
    return Prepared(pipeline, extraction, sample, run)


def augmenter_of(pipeline: Pipeline) -> Augmenter:
    """The pipeline's policy at work."""
    return Augmenter(pipeline.augment, pipeline.data.seed)


def extract_all(pipeline: Pipeline, progress: Progress, tell: Tell) -> tuple[Extraction, Views | None]:
    """The features of the images, and of views of the training images where the pipeline asks for such.

    Raises
    ------
    DataError
        Views of images that have no labels.
    """
    images = _images_told(pipeline, tell)
    if not pipeline.augment.views:
        return extract(images, pipeline.features, progress), None
    prepared = prepare(pipeline, progress)
    return prepared.extraction, prepared.sample.views


def plan_all(pipeline: Pipeline, progress: Progress, tell: Tell) -> dict[str, Any]:
    """What `extract_all` would do, as `featx extract --dry-run --json` prints it; nothing is computed."""
    images = _images_told(pipeline, tell)
    content = plan(images, pipeline.features, progress).as_json()
    if pipeline.augment.views:
        require_fittable(images)
        digests = digest_images(images.paths, StatIndex(Path(pipeline.features.cache) / "index.sqlite"))
        run = run_directory(pipeline, images)
        split = split_of_run(images, digests.digest, digests.usable, pipeline.data, run, keep=False)
        rows = Sample.of(images, digests.digest, split).train_rows
        each = pipeline.augment.views
        views = plan_views(images.take(rows), digests.digest[rows], pipeline.features, augmenter_of(pipeline), each)
        content["views"] = views.as_json()
    return content


def _images_told(pipeline: Pipeline, tell: Tell) -> ImageSet:
    """The images whose features are wanted; tells what was left aside."""
    images = choose_images(pipeline, read_data(pipeline))
    for note in images.notes:
        tell(note)
    return images


def split_of_run(
    images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions, run: Path, keep: bool = True
) -> np.ndarray:
    """The split uint8 (n,), kept in `run` by digest, so that a rename or more images never move an image.

    Other shares or another seed begin anew.

    keep : whether what is new in it is written down
    """
    terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
    folder = run / "split"
    kept: dict[bytes, int] = {}
    if (folder / "terms.json").exists() and terms in (folder / "terms.json").read_text():
        kept = read_split(folder / _KEPT)
    split = split_images(images, digests, readable, options, kept)
    placed = split != NONE
    now = {whole(d): int(code) for d, code in zip(digests[placed], split[placed], strict=True)}
    if keep and now.items() - kept.items():
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
    stages = [_extract_stage(done, prepared.sample.views)]
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
        wanted = tuned_fingerprint(bundle, pipeline.finetune, pipeline.data.seed, pipeline.augment)
        path = _made_before(prepared.run, wanted)
        why = f"up to date: {path}" if path else "this bundle was not fine-tuned with these options"
        stages.append(_stage("finetune", path is None, why))
        if path is None:
            finetune(bundle, prepared, command, progress, tell)
    best = best_bundle(prepared.run)
    report = report_of(best)
    return {"stages": stages, "bundle": str(best), "report": report and str(report)}


def _extract_stage(done: Extraction, views: Views | None) -> dict[str, Any]:
    why, computed = f"{done.computed} images computed, {done.reused} reused", done.computed
    if views is not None:
        why += f"; {views.extraction.computed} views computed, {views.extraction.reused} reused"
        computed += views.extraction.computed
    return _stage("extract", computed > 0, why)


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
    features, fitted, views = extraction.features(extraction.outputs[0], sample.rows), sample.fitted, sample.views
    columns: dict[str, list[str] | np.ndarray] = {
        "paths": [extraction.images.paths[row] for row in sample.rows[fitted]],
        "classes": list(extraction.images.classes),
        "split": [SPLITS[code] for code in sample.split[fitted]],
    }
    about = {"output": extraction.outputs[0].name, "key": extraction.store.key.as_json()}
    if views is not None:
        features = features.followed_by(views.features(extraction.outputs[0]))
        numbers = views.extraction.view(views.rows)
        columns["view"] = np.concatenate([np.zeros(len(sample.rows), numbers.dtype), numbers])
        about["augment"] = views.augmenter.as_json()
    export_features(out, features, sample.y[fitted], columns, about)
    return features.shape
