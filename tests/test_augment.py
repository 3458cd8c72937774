"""Augmentation: what moves is checked against NumPy and SciPy, what is drawn can be drawn again."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import call
from PIL import Image
from scipy import ndimage

from featx.config import OPERATIONS, AugmentOptions
from featx.config.pipeline import read_pipeline
from featx.images import batches as image_batches
from featx.images.augment import Augmenter, Change
from featx.images.batches import Decoding, iter_batches
from featx.images.resize import PAD_COLOUR
from featx.io.digest_arrays import digest_array

EVERYTHING = AugmentOptions(
    flip="both",
    rotation=20,
    shift=0.2,
    shear=0.2,
    zoom=0.2,
    crop=0.5,
    brightness=0.3,
    contrast=0.3,
    saturation=0.5,
    erasing=0.2,
)
MODES = {"nearest": "edge", "reflect": "symmetric"}


def noise(height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image without jumps: of these, interpolations that round differently differ by little."""
    blurred = ndimage.gaussian_filter(noise(height, width, seed).astype(float), (3, 3, 0), mode="nearest")
    return np.clip((blurred - 127.5) * 6 + 127.5, 0, 255).astype(np.uint8)


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


# --- what moves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14)])
def test_flips_are_exact(height: int, width: int) -> None:
    image = noise(height, width)
    np.testing.assert_array_equal(Change(flip=(True, False)).apply(image), image[:, ::-1])
    np.testing.assert_array_equal(Change(flip=(False, True)).apply(image), image[::-1])
    np.testing.assert_array_equal(Change(flip=(True, True)).apply(image), image[::-1, ::-1])


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest", "reflect", "constant"])
def test_right_angles_are_exact(turns: int, mode: str) -> None:
    image = noise()
    np.testing.assert_array_equal(Change(rotation=90.0 * turns).apply(image, mode), np.rot90(image, turns))
    np.testing.assert_array_equal(Change(rotation=-90.0 * turns).apply(image, mode), np.rot90(image, -turns))


@pytest.mark.parametrize("mode", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -5), (-2, 4), (10, 8)])
def test_shifts_by_whole_pixels_are_exact(mode: str, right: int, down: int) -> None:
    height, width = 8, 10
    image = noise(height, width)
    more = {"constant_values": 200} if mode == "constant" else {}
    wide = np.pad(image, ((10, 10), (10, 10), (0, 0)), MODES.get(mode, "constant"), **more)
    expected = wide[10 - down : 10 - down + height, 10 - right : 10 - right + width]
    found = Change(shift=(right / width, down / height)).apply(image, mode, 200)
    np.testing.assert_array_equal(found, expected)


def test_a_crop_of_a_quarter_is_that_quarter_enlarged() -> None:
    image = smooth(20, 24)
    found = Change(crop=(0.5, 0.0, 1.0, 0.5)).apply(image)
    # the pixel in the middle of every 2 x 2 that one pixel becomes lies on no grid: compare the mean of the four
    means = found.reshape(10, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(means - image[:10, 12:])[1:-1, 1:-1].mean() < 2


def test_rotation_is_counter_clockwise_shear_moves_the_bottom_right_and_zoom_magnifies() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[18:23, 33:38] = 255  # right of the centre

    def centre(pixels: np.ndarray) -> tuple[float, float]:
        return ndimage.center_of_mass(pixels[..., 0].astype(float))

    down, across = centre(Change(rotation=30).apply(image))
    assert (down, across) == pytest.approx((20 - 15 * np.sin(np.pi / 6), 20 + 15 * np.cos(np.pi / 6)), abs=0.2)
    assert centre(Change(zoom=0.5).apply(image)) == pytest.approx((20, 27.5), abs=0.2)
    low = np.rot90(image, -1)  # below the centre
    assert centre(Change(shear=0.4).apply(low)) == pytest.approx((35, 20 + 0.4 * 15), abs=0.2)


@pytest.mark.parametrize("mode", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("seed", range(4))
def test_all_operations_together_are_one_affine_map_as_scipy_resamples_it(mode: str, seed: int) -> None:
    """Steps of the map are written here as matrices of their own and multiplied, the image moves by SciPy."""
    height, width = 40, 56
    image = smooth(height, width, seed)
    policy = AugmentOptions(flip="both", rotation=40, shift=0.2, shear=0.3, zoom=0.4, crop=0.4)
    change = Augmenter(policy, seed).draw(digest(seed), 1)

    def around(linear: np.ndarray) -> np.ndarray:
        """A map of (x, y, 1) about the centre."""
        whole = np.eye(3)
        whole[:2, :2] = linear
        middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
        return middle @ whole @ np.linalg.inv(middle)

    turn = np.deg2rad(change.rotation)
    left, top, right, bottom = change.crop
    forward = around(np.diag([-1.0 if one else 1.0 for one in change.flip]))
    forward = around(np.array([[1, change.shear], [0, 1]])) @ forward
    forward = around(np.eye(2) * change.zoom) @ forward
    forward = around(np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])) @ forward
    forward = np.array([[1, 0, change.shift[0] * width], [0, 1, change.shift[1] * height], [0, 0, 1]]) @ forward
    enlarge = np.diag([1 / (right - left), 1 / (bottom - top), 1])
    forward = enlarge @ np.array([[1, 0, -left * width], [0, 1, -top * height], [0, 0, 1]]) @ forward
    np.testing.assert_allclose(change.matrix(height, width), np.linalg.inv(forward)[:2], atol=1e-9)

    # from (x, y) of corners to (row, column) of middles of pixels
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    by_index = swap @ np.linalg.inv(half) @ np.linalg.inv(forward) @ half @ swap
    expected = np.stack(
        [
            ndimage.affine_transform(
                image[..., channel].astype(float),
                by_index[:2, :2],
                by_index[:2, 2],
                order=1,
                mode={"constant": "grid-constant"}.get(mode, mode),
                cval=90,
            )
            for channel in range(3)
        ],
        axis=-1,
    )
    found = change.apply(image, mode, 90).astype(float)
    away = np.abs(found - expected).max(axis=-1)
    if mode == "constant":  # at the image's very edge SciPy mixes the pixel with the value, Pillow takes the pixel
        index = np.stack([*np.indices((height, width)), np.ones((height, width))])
        down, across = np.einsum("ij,jrc->irc", by_index[:2], index) + 0.5
        distance = np.minimum.reduce(np.abs([down, down - height, across, across - width]))
        away = away[distance > 1]
    assert len(away)
    assert away.max() <= 1


def test_a_policy_of_strong_operations_leaves_no_hole_where_edges_are_continued() -> None:
    image = np.full((32, 32, 3), 255, np.uint8)
    policy = AugmentOptions(rotation=180, shift=1, shear=1, zoom=0.9)
    for mode in ("nearest", "reflect"):
        for view in range(1, 30):
            altered = Augmenter(replace(policy, fill_mode=mode), 3)(image, digest(view), view)
            assert altered.shape == (32, 32, 3)
            assert altered.min() == 255


# --- colours -----------------------------------------------------------------------------------------------------


def test_colours_are_mixed_with_black_the_mean_grey_and_grey() -> None:
    image = noise()
    exact = image.astype(float)
    grey = exact @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as in Pillow
    for change, expected in (
        (Change(brightness=1.4), exact * 1.4),
        (Change(brightness=0.5), exact * 0.5),
        (Change(contrast=0.3), grey.mean() + 0.3 * (exact - grey.mean())),
        (Change(contrast=1.7), grey.mean() + 1.7 * (exact - grey.mean())),
        (Change(saturation=0.0), np.repeat(grey[..., None], 3, axis=-1)),
        (Change(saturation=1.5), grey[..., None] + 1.5 * (exact - grey[..., None])),
    ):
        assert np.abs(change.apply(image) - np.clip(expected, 0, 255)).max() <= 0.501


def test_views_are_as_bright_as_exact_ones() -> None:
    """Fractions that are cut off, as Pillow does with uint8, darken by half a level."""
    image = noise(40, 40) // 2 + 64
    for change in (Change(brightness=0.9), Change(contrast=0.8), Change(contrast=1.2), Change(saturation=0.7)):
        exact = image.astype(float)
        grey = exact @ [0.299, 0.587, 0.114]
        base = {"brightness": 0.0, "contrast": grey.mean(), "saturation": grey[..., None]}
        ((name, factor),) = [(key, getattr(change, key)) for key in base if getattr(change, key) != 1]
        expected = base[name] + factor * (exact - base[name])
        assert abs((change.apply(image) - expected).mean()) < 0.1, name  # some factors have fractions of a few kinds
    moved = Change(shift=(0.5 / 40, 0.25 / 40)).apply(image)[1:, 1:].astype(float)
    exact = image.astype(float)
    across = (exact[:, :-1] + exact[:, 1:]) / 2
    expected = 0.25 * across[:-1] + 0.75 * across[1:]
    assert np.abs(moved - expected).max() <= 0.501
    assert abs((moved - expected).mean()) < 0.05


def test_rounding_changes_the_identity_of_views_that_it_changes_and_of_no_other() -> None:
    assert (
        Augmenter(AugmentOptions(flip="both"), 0).identity
        == "flip=both fill_mode=nearest seed=0 pixels=b1ef6177dd8ee0de"
    )
    assert "pixels=a59945855e612086" not in Augmenter(AugmentOptions(rotation=20), 0).identity, "of cut-off fractions"


def test_erasing_paints_a_rectangle_and_nothing_else() -> None:
    image = noise(20, 40)
    altered = Change(erasing=(0.25, 0.5, 0.75, 0.9)).apply(image)
    expected = image.copy()
    expected[10:18, 10:30] = PAD_COLOUR
    np.testing.assert_array_equal(altered, expected)


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_view_0_is_the_image_and_the_others_are_altered_each_in_its_own_way() -> None:
    image, augmenter = noise(), Augmenter(EVERYTHING, 0)
    np.testing.assert_array_equal(augmenter(image, digest(1), 0), image)
    views = [augmenter(image, digest(1), view) for view in range(6)]
    assert len({view.tobytes() for view in views}) == 6
    assert all(view.dtype == np.uint8 and view.shape == image.shape for view in views)


def test_a_view_depends_on_seed_digest_and_number_alone() -> None:
    image = noise()
    first = [Augmenter(EVERYTHING, 7)(image, digest(5), view) for view in (1, 2, 3)]
    again = Augmenter(EVERYTHING, 7)
    for other in range(20):  # whatever else is drawn in between
        again(image, digest(other), 1)
    for view in (3, 1, 2):
        np.testing.assert_array_equal(again(image, digest(5), view), first[view - 1])
    for changed in (Augmenter(EVERYTHING, 8).draw(digest(5), 1), again.draw(digest(6), 1), again.draw(digest(5), 2)):
        assert changed != again.draw(digest(5), 1)


def test_a_digest_that_ends_in_zeros_is_the_same_out_of_an_array() -> None:
    augmenter, whole = Augmenter(EVERYTHING, 0), b"\x01" * 30 + b"\0\0"
    assert augmenter.draw(whole, 4) == augmenter.draw(digest_array([whole])[0].tobytes(), 4)


def test_an_operation_draws_the_same_with_or_without_the_others() -> None:
    augmenter = Augmenter(EVERYTHING, 2)
    together = augmenter.draw(digest(3), 2)
    for name in OPERATIONS:
        alone = augmenter.only(name)
        assert alone.policy.operations == (name,)
        assert alone.draw(digest(3), 2) == replace(Change(), **{name: getattr(together, name)})


def test_nothing_is_on_by_default() -> None:
    image = noise()
    assert AugmentOptions().operations == ()
    np.testing.assert_array_equal(Augmenter(AugmentOptions(), 0)(image, digest(1), 1), image)


def test_draws_fill_their_ranges_evenly() -> None:
    augmenter = Augmenter(EVERYTHING, 0)
    drawn = [augmenter.draw(digest(number), view) for number in range(500) for view in (1, 2)]
    ranges = {
        "rotation": (-20, 20),
        "shear": (-0.2, 0.2),
        "zoom": (0.8, 1.2),
        "brightness": (0.7, 1.3),
        "contrast": (0.7, 1.3),
        "saturation": (0.5, 1.5),
    }
    values = {name: np.array([getattr(one, name) for one in drawn]) for name in ranges}
    ranges |= {"right": (-0.2, 0.2), "down": (-0.2, 0.2)}
    values |= {"right": np.array([one.shift[0] for one in drawn]), "down": np.array([one.shift[1] for one in drawn])}
    for name, (low, high) in ranges.items():
        assert (values[name] >= low).all()
        assert (values[name] <= high).all()
        counts = np.histogram(values[name], 10, (low, high))[0]
        assert ((counts - 100) ** 2 / 100).sum() < 27.9  # chi-square of 9 degrees of freedom, one in a thousand
    flips = Counter(one.flip for one in drawn)
    assert all(200 < flips[x, y] < 300 for x in (True, False) for y in (True, False))


def test_crops_keep_their_share_and_erased_rectangles_stay_below_theirs() -> None:
    for share in (0.1, 0.5, 0.9, 1.0):
        augmenter = Augmenter(AugmentOptions(crop=share, erasing=share), 0)
        for view in range(1, 300):
            change = augmenter.draw(digest(view), view)
            for box in (change.crop, change.erasing):
                assert box is not None
                assert -1e-9 < box[0] < box[2] < 1 + 1e-9
                assert -1e-9 < box[1] < box[3] < 1 + 1e-9
            left, top, right, bottom = change.crop
            assert share - 1e-9 <= (right - left) * (bottom - top) <= 1 + 1e-9
            left, top, right, bottom = change.erasing or (0, 0, 0, 0)
            assert 0 < (right - left) * (bottom - top) <= share + 1e-9


def test_only_what_was_asked_for_is_flipped() -> None:
    for how, allowed in (("horizontal", {(True, False)}), ("vertical", {(False, True)})):
        augmenter = Augmenter(AugmentOptions(flip=how), 0)
        assert {augmenter.draw(digest(1), view).flip for view in range(1, 40)} == allowed | {(False, False)}


def test_the_identity_is_that_of_the_views_of_featx_0_1_0() -> None:
    flipped = Augmenter(AugmentOptions(flip="horizontal"), 0)
    assert flipped.identity == "flip=horizontal fill_mode=nearest seed=0 pixels=b1ef6177dd8ee0de"


def test_the_identity_is_of_what_alters_pixels() -> None:
    rotated = AugmentOptions(rotation=20)
    same = [rotated, AugmentOptions(rotation=20.0), AugmentOptions(rotation=20, fill_value=9)]
    assert len({Augmenter(policy, 0).identity for policy in same}) == 1
    colour = AugmentOptions(brightness=0.2)
    assert Augmenter(colour, 0).identity == Augmenter(replace(colour, fill_mode="reflect"), 0).identity
    others = [
        AugmentOptions(rotation=21),
        AugmentOptions(rotation=20, fill_mode="reflect"),
        AugmentOptions(rotation=20, fill_mode="constant"),
        AugmentOptions(rotation=20, fill_mode="constant", fill_value=9),
        AugmentOptions(rotation=20, flip="vertical"),
        colour,
    ]
    assert len({Augmenter(policy, 0).identity for policy in [rotated, *others]} | {Augmenter(rotated, 1).identity}) == 8
    about = Augmenter(EVERYTHING, 3).as_json()
    assert Augmenter.from_json(json.loads(json.dumps(about))) == Augmenter(EVERYTHING, 3)


def test_the_policy_of_a_known_walk_through_is_a_section(tmp_path: Path) -> None:
    path = tmp_path / "augmented.yaml"
    path.write_text(
        "augment: {rotation: 20, shift: 0.2, shear: 0.2, zoom: 0.2, flip: horizontal, fill_mode: nearest}\n"
    )
    policy = read_pipeline(path).augment
    assert set(policy.operations) == {"rotation", "shift", "shear", "zoom", "flip"}
    assert policy == AugmentOptions(rotation=20, shift=0.2, shear=0.2, zoom=0.2, flip="horizontal")


# --- in the decoding threads -------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_batches_are_altered_row_by_row_and_a_source_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [noise(seed=number) for number in range(5)]
    sources = [png(picture) for picture in pictures for _ in range(3)]  # three views of each
    sources[7:7] = [b"no image"]
    decoded = []
    real = image_batches.load_image

    def load(source: bytes, size: tuple[int, int], resize: str) -> np.ndarray:
        decoded.append(source)
        return real(source, size, resize)

    monkeypatch.setattr(image_batches, "load_image", load)

    def alter(row: int, image: np.ndarray) -> np.ndarray:
        return np.roll(image, row, axis=1)

    batches = list(iter_batches(sources, range(16), Decoding((16, 16), "stretch", 16, workers=2, alter=alter)))
    assert [row for batch in batches for row in batch.rows] == [*range(7), *range(8, 16)]
    assert [row for batch in batches for row, _ in batch.unreadable] == [7]
    for batch in batches:
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            expected = real(sources[row], (16, 16), "stretch")
            np.testing.assert_array_equal(image, np.roll(expected, row, axis=1))
    assert len(decoded) == 7  # the broken one stands between views of the third
    assert Counter(decoded)[sources[0]] == 1


# --- featx augment -----------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(smooth(30, 40)).save(tmp_path / "leaf.png")
    return tmp_path / "leaf.png"


def test_the_picture_of_a_policy_has_a_row_for_all_and_one_for_each(picture: Path, tmp_path: Path) -> None:
    arguments = ["--rotation", "20", "--flip", "horizontal", "--count", "3", "--input-size", "32", "--json"]
    done = call("augment", picture, "--out", "grid.png", *arguments, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.json == {"out": "grid.png", "views": 3, "operations": ["flip", "rotation"]}
    with Image.open(tmp_path / "grid.png") as grid:
        several = grid.size
    again = call("augment", picture, "--out", "one.png", "--rotation", "20", "--count", "3", cwd=tmp_path)
    assert again.status == 0, again.err
    with Image.open(tmp_path / "one.png") as grid:
        assert grid.width == several[0]
        assert grid.height < several[1] / 2  # one operation has no row of its own besides


def test_the_picture_of_a_pipeline_files_policy(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("augment: {brightness: 0.5}\nfeatures: {input_size: 48}\n")
    done = call("augment", picture, "-p", "p.yaml", "--out", "grid.png", cwd=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["leaf.png"], 2, "No operation is on"),
        (["leaf.png", "--rotation", "200"], 2, "augment.rotation must be at most 180, got 200"),
        (["leaf.png", "--fill-value", "256", "--zoom", "0.1"], 2, "augment.fill_value must be at most 255"),
        (["gone.png", "--zoom", "0.1"], 1, "gone.png"),
        (["broken.png", "--zoom", "0.1"], 1, "broken.png"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    picture: Path, tmp_path: Path, arguments: list[str], status: int, sentence: str
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = call("augment", *arguments, "--out", "grid.png", cwd=tmp_path)
    assert done.status == status
    assert sentence in done.sentence
    assert not (tmp_path / "grid.png").exists()
