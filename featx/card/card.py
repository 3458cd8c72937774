"""The model card of a bundle: what it is, what it was made of, how right it is, and what nobody has measured.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), in their order. Everything is
taken from `bundle.json`; what that does not tell is said to be not recorded or not measured, and nothing is guessed.
The block at the top is the metadata that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featx.bundle.novelty import FILE as REFERENCE
from featx.card import figures, usage
from featx.card.facts import backbone_of, is_multilabel, kind_of, metric_names, metrics_on, source_of
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


def model_card(about: Mapping[str, Any], name: str, place: str = "MODEL") -> str:
    """The card of a bundle as Markdown, with a block of YAML metadata in front.

    about : the content of its `bundle.json`, of any version and kind; what is absent there is told to be so
    name : of the model
    place : where the bundle is, as its commands are to name it
    """
    sections = (
        _metadata(about, name),
        f"# Model card: {escape(name)}",
        _summary(about),
        "## Model details",
        _details(about),
        _licenses(about),
        "## Intended use",
        _intended_use(about),
        "## Factors",
        _factors(about),
        "## Metrics",
        figures.describe_metrics(about),
        "## Evaluation data and training data",
        figures.describe_data(about),
        "## Quantitative analyses",
        figures.describe_results(about),
        "## Ethical considerations",
        _ethics(about),
        "## Caveats and recommendations",
        figures.describe_caveats(about),
        "## How to use it",
        usage.describe_use(about, place),
        "## How it was made",
        usage.describe_making(about, place),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _metadata(about: Mapping[str, Any], name: str) -> str:
    """The front matter. JSON is YAML as well, so every value is written as JSON."""
    test = metrics_on(about, "test")
    measured = [
        {"type": _HUB_TYPES.get(metric, metric), "name": metric_label(metric), "value": test[metric]}
        for metric in metric_names(about)
        if test.get(metric) is not None
    ]
    values: dict[str, Any] = {
        "library_name": "featx",
        "pipeline_tag": "image-classification",
        "tags": ["featx", "keras", "image-classification", one_line(backbone_of(about).get("name", "network"))],
    }
    if measured:
        task = {"type": "image-classification", "name": "Image Classification"}
        dataset = {"type": "imagefolder", "name": one_line(source_of(about) or "images"), "split": "test"}
        result = {"task": task, "dataset": dataset, "metrics": measured}
        values["model-index"] = [{"name": one_line(name), "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in values.items()]
    return "\n".join(["---", "# license: to be added by who publishes the model", *lines, "---"])


def _summary(about: Mapping[str, Any]) -> str:
    what = "labels (any number of them) an image has" if is_multilabel(about) else "classes an image shows"
    network = code_span(backbone_of(about).get("name", NOT_RECORDED))
    origin = {
        "scratch": f"It is a small network, {network}, trained from scratch.",
        "tuned": (
            f"It is {network} with a head on top, both fine-tuned from the bundle "
            f"{code_span((about.get('from') or {}).get('bundle', NOT_RECORDED))}."
        ),
        "frozen": (
            f"A frozen network, {network}, turns an image into features, and a head was fitted on them: {_head(about)}."
        ),
    }[kind_of(about)]
    return f"It tells which of {len(about['classes']):,} {what}, and how sure it is of that. {origin}"


def _details(about: Mapping[str, Any]) -> str:
    backbone, head = backbone_of(about), about.get("head") or {}
    rows = [
        ("made", about.get("created")),
        ("network", backbone.get("name")),
        ("weights it started from" if kind_of(about) == "tuned" else "weights", _weights(about)),
        ("layers and pooling", ", ".join(about.get("outputs") or ())),
        ("input", _input(backbone)),
        ("head", None if kind_of(about) == "scratch" else _head(about)),
        ("options of the head", name_values(head.get("params") or {})),
        ("features per image", head.get("features")),
        ("confidence", _calibration(head)),
        ("fitted again on train and val together", head.get("refitted")),
        ("augmentation in training", name_values(about.get("augment") or {}) or "none"),
        ("fine-tuning", name_values(about.get("finetune") or {})),
        ("training from scratch", name_values(about.get("baseline") or {})),
        ("digest of the bundle", str(about.get("digest", ""))[:16]),
    ]
    classes = listed([escape(one) for one in about["classes"]], _MOST_NAMED)
    told = [(label, figure(value)) for label, value in rows if value not in (None, "")]
    return f"{table(('', ''), told)}\n\nClasses: {classes}."


def _head(about: Mapping[str, Any]) -> str:
    """The head and its strength, not escaped."""
    head = about.get("head") or {}
    clf, params = str(head.get("clf", NOT_RECORDED)), head.get("params") or {}
    strength = next((f", {name} = {name_value(params[name])}" for name in _STRENGTHS if name in params), "")
    return f"{_HEADS.get(clf, clf)}{strength}"


def _weights(about: Mapping[str, Any]) -> str:
    digest = (about.get("key") or {}).get("weights")
    told = str(backbone_of(about).get("weights", NOT_RECORDED))
    return f"{told}, SHA-256 of their values {str(digest)[:16]}..." if digest else told


def _input(backbone: Mapping[str, Any]) -> str:
    if "input_size" not in backbone:
        return NOT_RECORDED
    height, width = backbone["input_size"]
    return f"RGB, {height} pixels high, {width} wide; resized by {backbone.get('resize', NOT_RECORDED)}"


def _calibration(head: Mapping[str, Any]) -> str:
    if "temperature" not in head:
        return NOT_RECORDED
    kind, temperature = head.get("calibration", "temperature"), head["temperature"]
    value = f" {name_value(temperature)}" if kind == "temperature" else ""
    return f"calibrated by {kind}{value}, on images that the head was not fitted on"


def _licenses(about: Mapping[str, Any]) -> str:
    return (
        f"**Licence of the weights.** {_license(about)} The images that it was fitted on may have terms of their own. "
        "Who publishes the model decides on its licence within these."
    )


def _license(about: Mapping[str, Any]) -> str:
    backbone = backbone_of(about)
    if kind_of(about) == "scratch":
        return "Yours: the network was trained from scratch on your images."
    if "license" not in backbone:
        return "Not recorded, since the bundle was made by an older featx."
    if backbone["license"] is not None:
        return (
            f"The ImageNet weights of {code_span(backbone.get('name'))} were published under {backbone['license']}; "
            "keep its notice where you pass the model on. ImageNet's own terms of access are for non-commercial "
            "research and education."
        )
    if backbone.get("weights") == "random":
        return "Yours: the network has random weights."
    return "Yours to know: they were read from a file, and featx knows nothing of its licence."


def _intended_use(about: Mapping[str, Any]) -> str:
    source = code_span(source_of(about) or NOT_RECORDED)
    images = (
        f"Meant for images like those it was fitted on ({source}): the same kind of subject, camera, distance, light "
        "and background."
    )
    excluded = (
        "Not meant for other kinds of images or other classes, nor for decisions about people that nobody checks."
    )
    if is_multilabel(about):
        unsure = "A label is given from its threshold on (see the table of classes); an image may get none."
    else:
        unsure = (
            "It names one of its classes whatever an image shows. No threshold of confidence is built in: `featx "
            "predict --min-confidence 0.8` answers `unsure` where the confidence is less than 0.8."
        )
    unknown = (
        "`featx predict --max-distance 1` answers `unknown` where an image is farther from the training images than 99 "
        "% of the images of known classes are. A new class that looks like a known one is often missed by it."
        if REFERENCE in (about.get("files") or {})
        else "It keeps no training features, so it cannot tell images that are unlike all of them."
    )
    return bullets([images, excluded, unsure, unknown])


def _factors(about: Mapping[str, Any]) -> str:
    groups = (
        "Images of one group (a plant, a patient, a burst) are all in one part, so the figures below are of groups "
        "that it has not seen."
        if (about.get("split") or {}).get("grouped")
        else "No groups are known: where several images show the same object or scene, it may have been fitted on some "
        "and measured on others, and the figures below are then too good."
    )
    return (
        "Figures are told by class alone. Whether it does as well for every camera, light, place, time or group of "
        f"people was {NOT_MEASURED}. {groups}"
    )


def _ethics(about: Mapping[str, Any]) -> str:
    source = code_span(source_of(about) or NOT_RECORDED)
    holds = (
        "The bundle holds no image, but digests of the files that it was made of, and features of some training "
        "images, which tell something of what they show."
        if REFERENCE in (about.get("files") or {})
        else "The bundle holds no image, but digests of the files that it was made of."
    )
    return (
        f"Who or what is on the images of {source}, whether they agreed, and who may be harmed by a wrong answer is "
        f"{NOT_RECORDED}: who passes the model on has to add it. {holds}"
    )
