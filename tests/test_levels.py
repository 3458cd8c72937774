"""Which values of deep files are black and white: `--levels`, against the same in NumPy, in every stage."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cached import extract
from odd_files import png, tiff
from PIL import Image
from unkind import encode, gradient

import featx
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.config.route import set_keys
from featx.dataset import read_images
from featx.dataset.check import check_images
from featx.errors import UsageError
from featx.images.decoder import decode, load_image
from featx.images.depth import note_levels
from featx.images.grid import GridImage, draw_grid
from featx.images.levels import LEVELS
from featx.images.resize import ResizeRule
from featx.inference.explain import ClassMap
from featx.inference.overlays import draw_map
from featx.serve.limits import Limits
from featx.serve.service import Service, Terms
from featx.store.cache import Cache

HEIGHT, WIDTH = 22, 34


def scan(bits: int = 12, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Numbers of so many bits, none of them at either end."""
    low, high = (1 << bits) // 10, (1 << bits) * 9 // 10
    return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, channels))


def expected(values: np.ndarray, levels: str) -> np.ndarray:
    """What becomes of 16-bit numbers: 0 to 255, in fractions, RGB."""
    if levels == "full":
        low, high = 0.0, 65_535.0
    elif levels.endswith("bit"):
        low, high = 0.0, 2.0 ** int(levels[:-3]) - 1
    elif levels == "minmax":
        low, high = float(values.min()), float(values.max())
    else:
        low, high = np.percentile(values, [1, 99])
    shown = 255 * np.clip((values - low) / (high - low), 0, 1)
    return np.repeat(shown, 3, axis=2) if values.shape[2] == 1 else shown


def ppm(values: np.ndarray, plain: bool = False) -> bytes:
    kind = (2 if values.shape[2] == 1 else 3) if plain else (5 if values.shape[2] == 1 else 6)
    head = f"P{kind}\n# by hand\n{values.shape[1]} {values.shape[0]}\n65535\n".encode()
    return head + (" ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2").tobytes())


def jpeg_2000(values: np.ndarray) -> bytes:
    return bytes(pytest.importorskip("imagecodecs").jpeg2k_encode(values.astype(np.uint16).squeeze(), level=0))


def jpeg_xl(values: np.ndarray) -> bytes:
    return bytes(pytest.importorskip("imagecodecs").jpegxl_encode(values.astype(np.uint16).squeeze(), lossless=True))


FILES: dict[str, Callable[[np.ndarray], bytes]] = {
    "png": lambda values: png(values.squeeze(), 16),
    "interlaced png": lambda values: png(values.squeeze(), 16, interlaced=True),
    "tiff": lambda values: tiff(values, 16, 1 if values.shape[2] == 1 else 2),
    "big-endian planar tiff": lambda values: tiff(
        values, 16, 1 if values.shape[2] == 1 else 2, order=">", separate=values.shape[2] > 1
    ),
    "ppm": ppm,
    "plain ppm": lambda values: ppm(values, plain=True),
    "jpeg 2000": jpeg_2000,
    "jpeg xl": jpeg_xl,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_of_16_bits(kind: str, levels: str, channels: int) -> None:
    values = scan(channels=channels)
    found = np.asarray(decode(FILES[kind](values), levels=levels)).astype(float)
    wanted = expected(values, levels)
    # Pillow keeps the upper 8 bits of 48 a pixel, and does not round.
    assert np.abs(found - wanted).max() <= (1 if levels == "full" else 0.501)


@pytest.mark.parametrize("levels", LEVELS)
def test_white_is_zero_is_turned_round_after_it(levels: str) -> None:
    values = scan()
    found = np.asarray(decode(tiff(values, 16, 0), levels=levels)).astype(float)
    assert np.abs(found - (255 - expected(values, levels))).max() <= 0.501


@pytest.mark.parametrize("levels", ["minmax", "percentile", "12bit"])
def test_transparent_places_are_white(levels: str) -> None:
    values = scan(channels=3)
    key = values[3, 4].tolist()
    wanted = np.floor(expected(values, levels) + 0.5)
    wanted[np.all(values == key, axis=2)] = 255
    assert np.array_equal(np.asarray(decode(png(values, 16, key), levels=levels)), wanted)
    with_alpha = np.concatenate([values, np.full((HEIGHT, WIDTH, 1), 65_535)], axis=2)
    with_alpha[0, :, 3] = 0
    wanted = np.floor(expected(values, levels) + 0.5)
    wanted[0] = 255
    found = np.asarray(decode(tiff(with_alpha, 16, 2, t338=(2,)), levels=levels))
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("levels", LEVELS)
def test_files_that_state_their_depth_or_have_8_bits_are_left_alone(levels: str) -> None:
    picture = gradient(HEIGHT, WIDTH)
    for kind in ("PNG", "TIFF", "BMP", "JPEG", "WEBP", "PPM"):
        source = encode(picture, kind)
        assert np.array_equal(np.asarray(decode(source, levels=levels)), np.asarray(decode(source)))
    stated = tiff(scan(), 12, 1)
    assert np.array_equal(decode(stated, levels=levels), decode(stated)) == (levels not in ("minmax", "percentile"))


def test_an_image_of_one_value_and_values_beyond() -> None:
    even = np.full((HEIGHT, WIDTH, 1), 700)
    for levels in ("minmax", "percentile"):
        assert np.array_equal(decode(png(even.squeeze(), 16), levels=levels), decode(png(even.squeeze(), 16)))
    beyond = np.asarray(decode(png(even.squeeze() + 4000, 16), levels="12bit"))
    assert (beyond == 255).all()


def test_the_orientation_is_kept() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    values = scan()
    Image.fromarray(values.squeeze().astype(np.uint16)).save(buffer, "PNG", exif=exif)
    found = np.asarray(decode(buffer.getvalue(), levels="12bit")).astype(float)
    assert np.abs(found - np.rot90(expected(values, "12bit"), -1)).max() <= 0.501


def test_damaged_deep_files_are_refused_in_a_sentence() -> None:
    whole = png(scan().squeeze(), 16)
    for cut in range(60, len(whole), 97):
        for levels in ("12bit", "minmax"):
            with pytest.raises(Exception, match=r"damaged|cut|trunc|broken|data|file"):
                decode(whole[:cut], levels=levels)


# --- the rule, the key and the option ----------------------------------------------------------------------------


def test_the_rule_names_levels_only_where_they_are_not_the_default() -> None:
    assert str(ResizeRule("stretch", levels="full")) == "stretch"
    assert str(ResizeRule.parse("crop:0.875:bicubic:minmax")) == "crop:0.875:bicubic:minmax"
    assert ResizeRule.parse(str(ResizeRule("pad", levels="12bit"))).levels == "12bit"
    with pytest.raises(UsageError, match="levels one of full, 10bit"):
        ResizeRule.parse("pad:1:bilinear:11bit")


def test_data_scale_is_another_name_of_the_key() -> None:
    assert set_keys(Pipeline(), {"data.scale": "12bit"}).features.levels == "12bit"
    with pytest.raises(UsageError, match=r"features\.levels"):
        set_keys(Pipeline(), {"data.scale": "11bit"})


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for label in ("bright", "dim"):
        (folder / label).mkdir(parents=True)
        for seed in range(6):
            values = scan(seed=seed) // (1 if label == "bright" else 4)
            (folder / label / f"{seed}.png").write_bytes(png(values.squeeze(), 16))
    return folder


def _scaled_by_hand(folder: Path, out: Path) -> Path:
    """The same images as files of 8 bits."""
    for path in folder.glob("*/*.png"):
        whole = np.floor(expected(scan(seed=int(path.stem)) // (4 if path.parent.name == "dim" else 1), "12bit") + 0.5)
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(whole.astype(np.uint8)).save(out / path.parent.name / path.name)
    return out


def test_the_key_changes_with_levels_alone_and_the_features_are_those_of_the_scaled_files(
    tiny_backbone: Path, cache: Path, tmp_path: Path
) -> None:
    folder = _folder(tmp_path)
    images = read_images(str(folder), DataOptions())
    usual = FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))
    plain = extract(images, usual)
    assert "levels" not in str(plain.store.key.as_json())
    assert plain.store.key.resize == "stretch"
    scaled = FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache), levels="12bit")
    done = extract(images, scaled)
    assert (done.computed, done.store.key.resize) == (len(images), "stretch:1:bilinear:12bit")
    again = extract(images, scaled)
    assert again.computed == 0
    reference = extract(read_images(str(_scaled_by_hand(folder, tmp_path / "by hand")), DataOptions()), usual)
    rows = np.arange(len(images))
    (output,) = done.outputs
    assert np.array_equal(done.features(output, rows).asarray(), reference.features(output, rows).asarray())


def test_a_bundle_reads_scans_as_it_was_trained(tiny_backbone: Path, cache: Path, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    by_hand = _scaled_by_hand(folder, tmp_path / "by hand")
    usual = {"backbone": tiny_backbone, "layer": "high", "cache": cache, "clf": "logreg", "strength": 0.01}
    usual |= {"split": (0.5, 0.25, 0.25), "html": False, "runs": tmp_path / "runs"}
    model = featx.fit_head(folder, levels="12bit", **usual)
    assert model.bundle.manifest.backbone.resize == "stretch:1:bilinear:12bit"
    scans, pictures = (sorted(map(str, one.glob("*/*.png"))) for one in (folder, by_hand))
    assert np.array_equal(model.predict_proba(scans), model.predict_proba(pictures))
    served = Service(model.bundle, "scans", Terms(), Limits())._load(Path(scans[0]).read_bytes())
    assert np.array_equal(served, load_image(pictures[0], model.bundle.input_size, "stretch"))
    maps = {"occlusion": np.zeros(model.bundle.input_size, np.float32)}
    nothing = ClassMap("dim", 1.0, 0.0, None, maps, {})
    drawn, _ = draw_map(nothing, scans[0], model.bundle)
    wanted, _ = draw_map(nothing, pictures[0], model.bundle)
    assert np.array_equal(drawn, wanted)


def test_check_and_look_show_how_values_are_read(tmp_path: Path) -> None:
    images = read_images(str(_folder(tmp_path)), DataOptions())
    with Cache(tmp_path / "cache") as cache:
        (dark,) = check_images(images, cache.index).notes
        (read_as,) = check_images(images, cache.index, levels="12bit").notes
    assert dark.startswith("12 of 12 images are nearly black")
    assert "--levels 12bit" in dark
    assert read_as == "Values of deep files are read by the levels 12bit: 4,095 is white in files of 16 bits."
    assert note_levels(images.paths) == dark
    assert note_levels(images.paths, "12bit") == read_as
    assert note_levels([]) is None


def test_pictures_of_reports_show_what_the_network_sees(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(scan().squeeze(), 16))
    cells = [GridImage(str(path), ("scan",), levels=levels) for levels in ("full", "12bit")]
    dark, light = (np.asarray(Image.open(draw_grid([one], tmp_path / "out.png")).convert("L")) for one in cells)
    middle = (slice(60, 120), slice(60, 120))
    assert dark[middle].mean() < 20 < 90 < light[middle].mean()
    assert load_image(str(path), (8, 8), "stretch:1:bilinear:12bit").mean() > 90
