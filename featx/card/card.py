"""The model card of a bundle: what it is, how it was made, how accurate it is, and what has not been measured.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), in their order. Everything is
taken from the manifest; what that does not hold is called not recorded or not measured, and nothing is guessed.
The block at the top is the metadata that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json

from featx.bundle.manifest import Manifest
from featx.bundle.records import UNRECORDED, BackboneRecord, HeadRecord
from featx.card import figures, usage
from featx.card.facts import keeps_features, metric_names, network_of, origin_of, source_of
from featx.card.markdown import (
    NOT_MEASURED,
    NOT_RECORDED,
    bullets,
    code_span,
    escape,
    figure,
    listed,
    name_value,
    name_values,
    one_line,
    table,
)
from featx.io.jsontypes import Json
from featx.metrics.table import metric_label

__all__ = ["model_card"]

_HUB_TYPES = {"macro_f1": "f1", "f1_micro": "f1", "f1_macro": "f1"}
_HEADS = {
    "logreg": "logistic regression",
    "svm": "support vector machine",
    "ridge": "ridge regression",
    "knn": "nearest neighbours",
    "dense": "small dense network",
    "estimator": "estimator of scikit-learn",
}
_STRENGTHS = ("C", "alpha", "n_neighbors")
_MOST_NAMED = 100  # classes that are listed by name


def model_card(manifest: Manifest, name: str, place: str = "MODEL") -> str:
    """The card of a bundle as Markdown, with a block of YAML metadata in front.

    manifest : of the bundle; what it does not record is named as such
    name : of the model
    place : where the bundle is, as its commands are to name it
    """
    sections = (
        _metadata(manifest, name),
        f"# Model card: {escape(name)}",
        _summary(manifest),
        "## Model details",
        _details(manifest),
        _licenses(manifest),
        "## Intended use",
        _intended_use(manifest),
        "## Factors",
        _factors(manifest),
        "## Metrics",
        figures.describe_metrics(manifest),
        "## Evaluation data and training data",
        figures.describe_data(manifest),
        "## Quantitative analyses",
        figures.describe_results(manifest),
        "## Ethical considerations",
        _ethics(manifest),
        "## Caveats and recommendations",
        figures.describe_caveats(manifest),
        "## How to use it",
        usage.describe_use(manifest, place),
        "## How it was made",
        usage.describe_making(manifest, place),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _metadata(manifest: Manifest, name: str) -> str:
    """The front matter. JSON is YAML as well, so every value is written as JSON."""
    values: dict[str, Json] = {
        "library_name": "featx",
        "pipeline_tag": "image-classification",
        "tags": ["featx", "keras", "image-classification", one_line(manifest.backbone.name or "network")],
    }
    measured = _hub_metrics(manifest)
    if measured:
        task = {"type": "image-classification", "name": "Image Classification"}
        dataset = {"type": "imagefolder", "name": one_line(manifest.data.source or "images"), "split": "test"}
        result: Json = {"task": task, "dataset": dataset, "metrics": measured}
        values["model-index"] = [{"name": one_line(name), "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in values.items()]
    return "\n".join(["---", "# license: to be added by whoever publishes the model", *lines, "---"])


def _hub_metrics(manifest: Manifest) -> list[dict[str, Json]]:
    """What was measured on test, as the hub names it."""
    test = manifest.metrics_on("test")
    found = [(metric, test.get(metric)) for metric in metric_names(manifest)] if test.images else []
    return [
        {"type": _HUB_TYPES.get(metric, metric), "name": metric_label(metric), "value": value}
        for metric, value in found
        if value is not None
    ]


def _summary(manifest: Manifest) -> str:
    what = "labels (any number of them) an image has" if manifest.multilabel else "classes an image shows"
    network, origin = network_of(manifest), origin_of(manifest)
    if origin == "scratch":
        made = f"It is a small network, {network}, trained from scratch."
    elif origin == "tuned":
        start = code_span(manifest.origin.bundle if manifest.origin else NOT_RECORDED)
        made = f"It is {network} with a head on top, both fine-tuned from the bundle {start}."
    else:
        head = _head(manifest.head)
        made = f"A frozen network, {network}, turns an image into features, and a head was fitted on them: {head}."
    return f"It answers which of {len(manifest.classes):,} {what}, with its confidence. {made}"


def _details(manifest: Manifest) -> str:
    head, origin = manifest.head, origin_of(manifest)
    training = [None if one is None else name_values(one.as_json()) for one in (manifest.finetune, manifest.baseline)]
    rows = [
        ("made", manifest.created),
        ("network", manifest.backbone.name),
        ("weights it started from" if origin == "tuned" else "weights", _weights(manifest)),
        ("layers and pooling", ", ".join(manifest.output_names)),
        ("input", _input(manifest.backbone)),
        ("head", None if origin == "scratch" else _head(head)),
        ("options of the head", name_values(head.params)),
        ("features per image", head.features),
        ("confidence", _calibration(head, manifest.calibrated_on)),
        ("fitted again on train and val together", head.refitted),
        ("augmentation in training", name_values(manifest.augment.as_json()) if manifest.augment else "none"),
        ("fine-tuning", training[0]),
        ("training from scratch", training[1]),
        ("digest of the bundle", manifest.digest[:16]),
    ]
    classes = listed([escape(one) for one in manifest.classes], _MOST_NAMED)
    recorded = [(label, figure(value)) for label, value in rows if value not in (None, "")]
    return f"{table(('', ''), recorded)}\n\nClasses: {classes}."


def _head(head: HeadRecord) -> str:
    """The head and its strength, not escaped."""
    strength = next((f", {name} = {name_value(head.params[name])}" for name in _STRENGTHS if name in head.params), "")
    path, plugin = head.params.get("path"), f", a plug-in of {head.plugin}" if head.plugin else ""
    return f"{path if isinstance(path, str) else _HEADS.get(head.clf, head.clf)}{plugin}{strength}"


def _weights(manifest: Manifest) -> str:
    weights, digest = manifest.backbone.weights or NOT_RECORDED, manifest.key.weights
    return f"{weights}, SHA-256 of their values {digest[:16]}..." if digest else weights


def _input(backbone: BackboneRecord) -> str:
    height, width = backbone.input_size
    return f"RGB, {height} pixels high, {width} wide; resized by {backbone.resize}"


def _calibration(head: HeadRecord, images: int | None) -> str:
    if images == 0:
        return "not calibrated: no image could be left out of the fit, so it is unmeasured"
    value = f" {name_value(head.temperature)}" if head.calibration == "temperature" else ""
    count = "" if images is None else f"{images:,} "
    text = f"calibrated by {head.calibration}{value}, on {count}images that the head was not fitted on"
    if head.correction is None:
        return text
    return f"{text}; corrected for the class weights, which the decision follows (`--class-weight`)"


def _licenses(manifest: Manifest) -> str:
    return (
        f"**Licence of the weights.** {_license(manifest)} The images that it was fitted on may have terms of their "
        "own. Whoever publishes the model chooses its licence within these."
    )


def _license(manifest: Manifest) -> str:
    backbone = manifest.backbone
    if origin_of(manifest) == "scratch":
        return "Yours: the network was trained from scratch on your images."
    if backbone.license is UNRECORDED:
        return "Not recorded, since the bundle was made by an older featx."
    if backbone.license is not None and backbone.license_source:
        return (
            f"The weights of {network_of(manifest)}{_downloaded(backbone)} are under {escape(backbone.license)}, "
            f"according to {escape(backbone.license_source)}. {_texts(manifest)}"
        )
    if backbone.license is not None:
        texts = f" {_texts(manifest)}" if manifest.licenses else ""
        return (
            f"The ImageNet weights of {network_of(manifest)} were published under {backbone.license}; "
            "keep its notice where you pass the model on. ImageNet's own terms of access are for non-commercial "
            f"research and education.{texts}"
        )
    if backbone.weights == "random":
        return "Yours: the network has random weights."
    texts = f" {_texts(manifest)}" if manifest.licenses else ""
    if backbone.source:
        return f"Yours to check: the weights{_downloaded(backbone)} came without the name of a licence.{texts}"
    return f"Yours to check: they were read from a file whose licence featx does not know.{texts}"


def _downloaded(backbone: BackboneRecord) -> str:
    return f", downloaded as {code_span(backbone.source)}," if backbone.source else ""


def _texts(manifest: Manifest) -> str:
    """Whether what has to be passed on is in the bundle."""
    if manifest.licenses:
        files = listed([*map(code_span, manifest.licenses)])
        return f"Its text, to be passed on with the model, is in the bundle: {files}."
    return "Its text is not in the bundle; pass it on with the model where the licence asks for that."


def _intended_use(manifest: Manifest) -> str:
    source = source_of(manifest)
    images = (
        f"Meant for images like those it was fitted on ({source}): the same kind of subject, camera, distance, light "
        "and background."
    )
    excluded = (
        "Not meant for other kinds of images or other classes, nor for decisions about people without human review."
    )
    if manifest.multilabel:
        unsure = "A label is given from its threshold on (see the table of classes); an image may get none."
    else:
        unsure = (
            "It always names one of its classes, whatever the image shows. No threshold of confidence is built "
            "in: `featx "
            "predict --min-confidence 0.8` answers `unsure` where the confidence is less than 0.8."
        )
    unknown = (
        "`featx predict --max-distance 1` answers `unknown` where an image is farther from the training images than 99 "
        "% of the images of known classes are. A new class that looks like a known one is often missed by it."
        if keeps_features(manifest)
        else "It keeps no training features, so it cannot recognise images that are unlike all of them."
    )
    return bullets([images, excluded, unsure, unknown])


def _factors(manifest: Manifest) -> str:
    by = f"by {escape(manifest.split.grouped_by)}" if manifest.split.grouped_by else "a plant, a patient, a burst"
    groups = (
        f"Images of one group ({by}) are all in one part, so the figures below are of groups that it has not seen."
        if manifest.split.grouped
        else "No groups are known: where several images show the same object or scene, it may have been fitted on some "
        "and measured on others, and the figures below are then too good."
    )
    return (
        "Figures are given by class only. Whether it does equally well for every camera, light, place, time or group "
        f"of people was {NOT_MEASURED}. {groups}"
    )


def _ethics(manifest: Manifest) -> str:
    source = source_of(manifest)
    holds = (
        "The bundle holds no image, but digests of the files that it was made from, and features of some training "
        "images, which reveal something of what they show."
        if keeps_features(manifest)
        else "The bundle holds no image, but digests of the files that it was made from."
    )
    return (
        f"Who or what is on the images of {source}, whether they agreed, and who may be harmed by a wrong answer is "
        f"{NOT_RECORDED}: whoever passes the model on has to add it. {holds}"
    )
