"""Stages return values and write nothing; publishing writes them down, and fingerprints outlive versions."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, with_finetune

import featx
from featx.bundle.bundle import load_bundle
from featx.config import DataOptions
from featx.dataset import NONE, SPLITS
from featx.dataset.split import Placed
from featx.finetune.flow import finetune, tuned_fingerprint
from featx.images.decoder import load_image
from featx.io.context import Context
from featx.io.digest_arrays import digest_array
from featx.io.digests import digest_json
from featx.report import occasions
from featx.runs.origin import algorithm
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.runs.split import KeptSplit
from featx.workflow.fit import fingerprint, fit
from featx.workflow.publish import publish


def test_a_fit_is_a_value_until_it_is_published(prepared: Prepared) -> None:
    fitted = fit(prepared, Context("featx fit-head"))
    assert not prepared.run.path.exists()
    assert [(one.part, len(one.paths)) for one in fitted.predictions] == [("val", 15), ("test", 15)]
    assert fitted.manifest.metrics_on("val").images == 15

    bundle = publish(fitted, prepared.run, prepared.pipeline)
    assert bundle.path == prepared.run.path / "1-logreg"
    assert (bundle.manifest.command, bundle.manifest.fingerprint) == ("featx fit-head", fingerprint(prepared))
    assert prepared.run.find(fingerprint(prepared)) == bundle
    again = publish(fitted, prepared.run, prepared.pipeline)
    assert again.path == prepared.run.path / "2-logreg"
    assert again.manifest.digest == bundle.manifest.digest


def test_a_fine_tune_is_a_value_that_can_be_resumed_until_it_is_published(lab: Lab, prepared: Prepared) -> None:
    start, prepared = lab.bundle("logreg"), with_finetune(prepared, epochs=1, checkpoints="best")
    trained = finetune(start, prepared)
    assert [path.name[:10] for path in prepared.run.path.iterdir()] == [".finetune-"]
    lines: list[str] = []
    finetune(start, prepared, Context(notify=lines.append))
    assert lines == ["Going on after epoch 1."]

    bundle = publish(trained, prepared.run, prepared.pipeline)
    assert [path.name for path in prepared.run.path.iterdir()] == ["1-logreg-finetuned"]
    assert [path.name for path in (bundle.path / "checkpoints").iterdir()] == ["epoch-001.keras"]
    judged = trained.predictions[1]
    images = np.stack([load_image(path, bundle.input_size, "stretch") for path in judged.paths])
    np.testing.assert_allclose(bundle.probabilities(bundle.features(images)), judged.probabilities, atol=1e-3)


def test_a_report_that_fails_does_not_lose_the_bundle(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no font")

    monkeypatch.setattr(occasions, "write_report", fail)
    pipeline = replace(prepared.pipeline, report=replace(prepared.pipeline.report, html=True))
    with caplog.at_level(logging.WARNING):
        bundle = publish(fit(prepared), prepared.run, pipeline)
    assert load_bundle(bundle.path) == bundle
    assert [record.getMessage() for record in caplog.records] == [
        f"The report could not be written to {bundle.path / 'report'}: no font"
    ]


# --- fingerprints ------------------------------------------------------------------------------------------------


def test_fingerprints_hold_numbers_of_algorithms_and_no_version(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(featx, "__version__", "7.0.0")
    prepared, bundle, options = lab.prepared, lab.bundle("logreg"), lab.pipeline.finetune
    head = {
        "key": prepared.extraction.store.key.digest,
        "outputs": [output.name for output in prepared.extraction.outputs],
        "split": prepared.sample.digest,
        "groups": None,
        "weight": None,
        "head": {name: value for name, value in asdict(prepared.pipeline.head).items() if name != "gamma"},  # not set
        "seed": 0,
        "featx": "3",
    }
    assert fingerprint(prepared) == digest_json(head)
    assert fingerprint(prepared) != digest_json(head | {"featx": "2"})
    given = asdict(replace(options, preset=None, gpu_memory="grow"))
    tuned = {"from": bundle.manifest.digest, "options": given, "seed": 3, "featx": "0.1.0"}
    assert tuned_fingerprint(bundle, options, 3) == digest_json(tuned)


def test_nothing_of_an_earlier_algorithm_is_reused_or_gone_on_from(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since 0.1.0 rare classes converge, folds stop elsewhere, constant features count nothing."""
    with monkeypatch.context() as of_then:
        of_then.setattr("featx.workflow.fit._ALGORITHM", 1)
        then = fit(prepared)
        bundle = publish(then, prepared.run, prepared.pipeline)
        assert prepared.run.find(fingerprint(prepared)) == bundle
    assert prepared.run.find(fingerprint(prepared)) is None
    assert fit(prepared).recording.state != then.recording.state


def test_another_algorithm_has_another_name() -> None:
    assert [algorithm(number) for number in (1, 2, 3)] == ["0.1.0", "2", "3"]


# --- the folder --------------------------------------------------------------------------------------------------


def test_a_split_is_kept_on_its_terms(tmp_path: Path) -> None:
    kept, digests = KeptSplit(tmp_path / "split"), digest_array([bytes(range(32)), b"\x00" * 31 + b"\x01"])
    assert len(kept.read("some terms")) == 0
    kept.write("some terms", Placed.of(digests, np.array([0, 2])))
    assert kept.read("some terms").find(digests).tolist() == [0, 2]
    assert kept.read("some terms").find(digest_array([bytes(32)])).tolist() == [NONE]
    assert len(kept.read("other terms")) == 0


def test_more_images_move_none_and_other_shares_begin_anew(lab: Lab, tmp_path: Path) -> None:
    extraction, run = lab.prepared.extraction, Run(tmp_path)
    options = DataOptions(split=(0.5, 0.25, 0.25))
    some = np.arange(0, len(extraction.images), 2)
    few = run.split.assign(extraction.images.take(some), extraction.digests[some], extraction.readable[some], options)
    given = extraction.images, extraction.digests, extraction.readable
    unwritten = run.split.assign(*given, options, keep=False)
    assert np.array_equal(unwritten[some], few)
    every = run.split.assign(*given, options)
    assert np.array_equal(every, unwritten)
    anew = run.split.assign(*given, replace(options, split=(0.2, 0.4, 0.4)))
    assert (anew == SPLITS.index("train")).sum() < (every == SPLITS.index("train")).sum()
