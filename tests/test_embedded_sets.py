from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from featx.config import DataOptions
from featx.dataset import TEST, TRAIN, read_images
from featx.dataset.digits import write_digits
from featx.dataset.fashion_mnist import FASHION_CLASSES, write_fashion_mnist
from featx.errors import DataError
from featx.images.decoder import decode


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "out"
    assert write_digits(out) == 1797
    return out


def test_the_digits_are_those_of_scikit_learn(digits: Path) -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    images = read_images(digits, DataOptions())
    assert len(images) == 1797
    assert images.classes == tuple("0123456789")
    for row in range(0, 1797, 50):
        number = int(Path(images.paths[row]).stem)
        assert images.labels is not None
        assert images.labels[row] == source.target[number]
        shown = np.asarray(decode(images.paths[row]))[..., 0]
        np.testing.assert_array_equal(shown, np.rint(source.images[number] / 16 * 255))


def test_writing_again_touches_only_what_is_not_there(digits: Path) -> None:
    files = sorted(digits.rglob("*.png"))
    before = {file: file.stat().st_mtime_ns for file in files}
    files[5].unlink()
    files[9].write_bytes(b"damaged")
    write_digits(digits)
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert changed == [files[5], files[9]]
    assert decode(files[9]).size == (8, 8)
    assert {file.name for file in digits.rglob("*")} == {file.name for file in files} | set("0123456789")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for prefix, count, pack in (("train", 30, gzip.compress), ("t10k", 20, bytes)):
        suffix = ".gz" if pack is gzip.compress else ""
        images = random.integers(0, 256, (count, 28, 28))
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(np.arange(count) % 10)))
    return folder


def test_fashion_mnist_keeps_its_split_its_names_and_its_pixels(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_fashion_mnist(source, out) == 50
    images = read_images(out, DataOptions())
    assert images.classes == tuple(sorted(FASHION_CLASSES))
    assert images.declared is not None
    assert (images.declared == TRAIN).sum() == 30
    assert (images.declared == TEST).sum() == 20
    raw = np.frombuffer((source / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    shown = np.asarray(decode(out / "test" / "Ankle boot" / "00010.png"))
    np.testing.assert_array_equal(shown[..., 0], raw[9])
    assert (out / "train" / "T-shirt_top" / "00001.png").is_file()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").unlink(), "No t10k-labels-idx1-ubyte"),
        (lambda folder: os.truncate(folder / "t10k-images-idx3-ubyte", 1000), "1000 bytes where its header says 15696"),
        (lambda folder: os.truncate(folder / "t10k-images-idx3-ubyte", 3), "too few"),
        (lambda folder: os.truncate(folder / "train-images-idx3-ubyte.gz", 100), "damaged gzip"),
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(19) % 10)), "19 labels for 20"),
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(20))), "label 19"),
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros((2, 10, 1)))), "not 2049"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_written(source: Path, tmp_path: Path, damage, words: str) -> None:
    damage(source)
    with pytest.raises(DataError, match=words):
        write_fashion_mnist(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_debians_files_if_they_are_there(tmp_path: Path) -> None:
    from featx.dataset.fashion_mnist import _find, _read_idx

    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    labels = _read_idx(_find(folder, "t10k-labels-idx1-ubyte"), 2049)
    assert np.bincount(labels).tolist() == [1000] * 10
