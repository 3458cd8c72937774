"""Figures are shown as the images can tell them, and what was not measured is said so; JSON has every digit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fitted import Lab, call, write_pictures
from scipy.stats import binomtest

from featx.bundle.bundle import load_bundle
from featx.card.card import model_card
from featx.metrics.digits import confidence_text, ends_text, figure_text, outward
from featx.report.words import percent
from featx.serve.measured import measured_text

FOUR_DIGITS = re.compile(r"\b[01]\.\d{3,}")


@pytest.mark.parametrize(
    ("images", "shown"), [(1, "0.96"), (45, "0.96"), (199, "0.96"), (200, "0.956"), (2000, "0.9556"), (None, "0.9556")]
)
def test_a_share_is_shown_as_so_many_images_can_tell_it(images: int | None, shown: str) -> None:
    assert figure_text(43 / 45, images) == shown
    if images:  # one image more that is wrong is always to be seen
        assert figure_text(1 - 1 / images, images) != figure_text(1.0, images)


@pytest.mark.parametrize("images", [1, 7, 45, 199, 200, 1_999, 2_000])
def test_an_interval_is_rounded_outward_and_is_0_or_1_only_where_it_is(images: int) -> None:
    """Wilson's of scipy, of every number of right ones: what is shown holds it, and 0.996 is not 1.00."""
    for right in {*range(min(images, 60)), images - 2, images - 1, images} & set(range(images + 1)):
        low, high = binomtest(right, images).proportion_ci(method="wilson")
        for ends, scale in ((ends_text((low, high), images).split(" to "), 1), (outward((low, high), 0, 2), 100)):
            first, second = map(float, ends)
            assert first <= scale * low + 1e-9
            assert scale * high - 1e-9 <= second
            assert second - first < scale * (high - low + 0.0201)
            assert (first == 0, second == scale) == (right == 0, right == images)


def test_ends_that_are_not_0_or_1_have_the_digits_that_show_it() -> None:
    assert ends_text((0.8876, 0.9959), 45) == "0.88 to 0.996"
    assert ends_text((0.8865, 1.0), 30) == "0.88 to 1.00"
    assert ends_text((0.0012, 0.1), 45, "+") == "+0.001 to +0.10"  # which does not hold 0
    assert ends_text((-0.9999, -0.0001), 45, "+") == "-0.9999 to -0.0001"
    assert outward((0.0004, 0.99996), 0, 2) == ("0.04", "99.996")
    assert figure_text(0.9962, 45) == "0.996"  # as a macro mean can be, of 45 images with one error
    assert (figure_text(0.003, 45), figure_text(1.003, 45)) == ("0.003", "1.00")
    assert (figure_text(1 - 1e-12, 45), figure_text(0.0, 45)) == ("1.00", "0.00")


@pytest.mark.parametrize(
    ("confidence", "images", "shown"),
    [
        (0.9996, None, "100.0%"),
        (0.9996, 0, "100%, unmeasured"),
        (0.9996, 12, "over 92%"),  # 13 / 14 = 0.9286
        (0.9, 12, "90%"),
        (0.01, 12, "under 8%"),
        (0.9996, 98, "over 99%"),
        (0.9996, 998, "over 99.9%"),
        (0.9512, 998, "95.1%"),
        (0.0001, 998, "under 0.1%"),
    ],
)
def test_a_confidence_is_no_surer_than_the_images_it_was_calibrated_on(
    confidence: float, images: int | None, shown: str
) -> None:
    assert confidence_text(confidence, images) == shown


def test_of_one_image_per_class_nothing_was_measured_and_that_stands_beside_the_confidence(
    lab: Lab, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "p", 1)
    made = call("fit-head", "p", "--backbone", lab.root / "tiny.keras", "--no-html", "--json", cwd=tmp_path)
    assert any("confidence means nothing" in note for note in made.json["notes"])
    picture = sorted((tmp_path / "p").rglob("*.png"))[0]
    answered = call("predict", picture, "--model", made.json["bundle"], cwd=tmp_path)
    assert re.search(r"\d+%, unmeasured", answered.out), answered.out
    assert "Confidence is unmeasured: no image was left out of the fit" in answered.err
    bundle = load_bundle(tmp_path / made.json["bundle"])
    assert bundle.manifest.calibrated_on == 0
    card = model_card(bundle.manifest, "m")
    assert "not calibrated: no image could be left out of the fit" in card
    assert "its confidence was calibrated on none and is unmeasured" in card


def test_45_images_have_two_digits_wherever_people_read(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    shown = call("evaluate", bundle.path, "--data", lab.root / "pictures", cwd=tmp_path)
    assert shown.status == 0, shown.err
    assert not FOUR_DIGITS.search(shown.out), shown.out
    assert re.search(r"images of pictures right .*\d+ of these images were trained on: the figures flatter", shown.out)
    by_chance = r"calibration error 0\.\d\d; a perfectly calibrated model would have 0\.\d\d to 0\.\d\d"
    assert re.search(by_chance, shown.out)
    full = call("evaluate", bundle.path, "--data", lab.root / "pictures", "--json", cwd=tmp_path).json
    assert f" {full['accuracy']:.2f} " in shown.out
    assert FOUR_DIGITS.search(str(full["log_loss"]))
    low, high = full["calibration_error_by_chance"]
    card = model_card(bundle.manifest, "m")
    (line,) = [line for line in card.splitlines() if line.startswith("| calibration error")]
    assert len(re.findall(r"\d\.\d\d \(by chance 0\.\d\d to 0\.\d\d\)", line)) == 2
    assert not FOUR_DIGITS.search(line)
    kept = bundle.manifest.metrics_on("val").calibration_error_by_chance
    assert kept is not None
    assert 0 <= kept[0] < kept[1] <= 1
    assert 0 <= low < high <= 1


def test_the_served_page_and_the_card_say_on_which_images_and_in_which_groups(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    test, val = (replace(manifest.metrics_on(part), groups=groups) for part, groups in (("test", 5), ("val", None)))
    share = r"accuracy \d+ % on 15 test images \(between \d+ and \d+ %, over 5 groups\)"
    assert re.fullmatch(share, measured_text(replace(manifest, metrics={"val": val, "test": test})))
    share = r"accuracy \d+ % on 15 validation images \(between \d+ and \d+ %\); there are no test images"
    assert re.fullmatch(share, measured_text(replace(manifest, metrics={"val": val})))
    assert measured_text(replace(manifest, metrics={})) == "measured in folds of train alone"
    assert (
        measured_text(replace(manifest, metrics={}, search={"last@avg": ()})) == "not measured: no image was held back"
    )
    assert "files of the same bytes are in one part." in model_card(manifest, "m")
    together = replace(manifest, split=replace(manifest.split, grouped=True, grouped_by="plant"))
    assert "are in one part, and so are images of one group (plant)." in model_card(together, "m")


def test_the_number_of_images_that_calibrated_is_that_of_the_folds_or_of_val(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    counts = manifest.split.images
    assert manifest.calibrated_on == counts["train"]  # in folds
    assert lab.bundle("dense").manifest.calibrated_on == counts["val"]
    assert replace(manifest, split=replace(manifest.split, images={})).calibrated_on is None


def test_tables_and_sentences_round_a_share_alike() -> None:
    for images in range(1, 200):
        for right in range(images + 1):
            in_words = percent(right / images)
            if "." not in in_words:  # near 0 and 100 a sentence has more digits
                assert float(figure_text(right / images, images)) == pytest.approx(float(in_words) / 100)
    assert (percent(39 / 40), figure_text(39 / 40, 40)) == ("98", "0.98")
    assert figure_text(-0.125, 40, "+") == "-0.13"
    assert figure_text(float("nan"), 40) == "nan"
