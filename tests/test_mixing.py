"""Mixup and CutMix: pixels, targets and weights against the papers' formulas, computed image by image."""

from __future__ import annotations

import numpy as np
import pytest

from featx.training.mixing import Mixing


def batch(
    n: int = 12, height: int = 10, width: int = 14, classes: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, each of one value of its own, targets and weights."""
    generator = np.random.default_rng(0)
    images = np.arange(1, n + 1, dtype=np.float32)[:, None, None, None] * np.ones((1, height, width, 3), np.float32)
    targets = np.eye(4, dtype=np.float32)[generator.integers(4, size=n)]
    return images, targets, np.ones(n, np.float32)


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return -(targets * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)


def partner_and_share(image: np.ndarray, own: int, n: int) -> list[tuple[int, float]]:
    """Every (partner, share of the image itself) that a blend of constant images can come from."""
    value, found = float(image.flat[0]), []
    for other in range(n):
        if other != own:
            share = (value - (other + 1)) / (own - other)
            if -1e-6 <= share <= 1 + 1e-6:
                found.append((other, share))
    return found


def test_nothing_is_mixed_by_default() -> None:
    given = batch()
    assert all(a is b for a, b in zip(given, Mixing().mix(*given, 0, 0), strict=True))


def test_mixup_is_a_weighted_mean_of_two_images_and_of_their_targets_by_the_same_weight() -> None:
    images, targets, weight = batch()
    mixed, soft, counted = Mixing(mixup=1.0, seed=3).mix(images, targets, weight, 0, 0)
    assert np.ptp(mixed, axis=(1, 2, 3)).max() == 0  # every pixel by the same weight
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(counted, 1)
    assert (mixed != images).any()
    for i, image in enumerate(mixed):
        explained = [
            np.allclose(soft[i], share * targets[i] + (1 - share) * targets[other], atol=1e-5)
            for other, share in partner_and_share(image, i, len(images))
        ]
        assert any(explained) or np.array_equal(image, images[i])


def test_mixup_follows_keras_formula_for_the_partners_and_weights_it_drew() -> None:
    import keras

    generator = np.random.default_rng(5)
    images = generator.uniform(0, 255, (6, 4, 4, 3)).astype(np.float32)
    targets = np.eye(6, dtype=np.float32)  # tell the partner and the weight of each image
    mixed, soft, _ = Mixing(mixup=0.7, seed=1).mix(images, targets, np.ones(6, np.float32), 2, 5)
    share = soft[np.arange(6), np.arange(6)]
    partner = np.array([next((j for j in np.argsort(-row) if j != i), i) for i, row in enumerate(soft)])
    layer = keras.layers.MixUp()
    drawn = {"mix_weight": share, "permutation_order": partner}
    np.testing.assert_allclose(mixed, layer.transform_images(images, drawn), rtol=1e-5)
    np.testing.assert_allclose(soft, layer.transform_labels(targets, drawn), rtol=1e-5, atol=1e-7)


def test_cutmix_pastes_one_box_and_its_area_is_the_partners_share() -> None:
    images, _, weight = batch()
    targets = np.eye(len(images), dtype=np.float32)
    mixed, soft, _ = Mixing(cutmix=1.0, seed=7).mix(images, targets, weight, 0, 0)
    pasted = 0
    for i, image in enumerate(mixed):
        foreign = image[..., 0] != i + 1
        assert soft[i, i] == pytest.approx(1 - foreign.mean(), abs=1e-6)
        if foreign.any():
            rows, columns = np.flatnonzero(foreign.any(axis=1)), np.flatnonzero(foreign.any(axis=0))
            box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            other = int(box[0, 0, 0]) - 1
            assert foreign.sum() == box[..., 0].size
            assert (box == other + 1).all()
            assert soft[i, other] == pytest.approx(foreign.mean(), abs=1e-6)
            pasted += 1
    assert pasted > len(images) // 2


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_loss_of_a_mixed_image_is_the_mean_of_its_parts_weighted_losses(kind: str) -> None:
    generator = np.random.default_rng(1)
    images, weight = batch()[0], generator.uniform(0.2, 3, 12).astype(np.float32)
    targets, logits = np.eye(12, dtype=np.float32), generator.normal(size=(12, 12))
    _, soft, counted = Mixing(seed=2, **{kind: 1.0}).mix(images, targets, weight, 0, 1)
    _, even, _ = Mixing(seed=2, **{kind: 1.0}).mix(images, targets, np.ones(12, np.float32), 0, 1)
    found = counted * cross_entropy(soft, logits)
    parts = np.array([cross_entropy(np.eye(12)[[j] * 12], logits) for j in range(12)]).T  # (image, class)
    np.testing.assert_allclose(found, (even * weight * parts).sum(axis=1), rtol=1e-5)


def test_images_that_count_nothing_together_count_nothing() -> None:
    images, targets, weight = batch()
    mixed, soft, counted = Mixing(mixup=1.0).mix(images, targets, 0 * weight, 0, 0)
    assert np.isfinite(mixed).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    np.testing.assert_array_equal(counted, 0)


def test_seed_epoch_and_batch_decide_and_nothing_else() -> None:
    given = batch()
    mixing = Mixing(mixup=0.4, cutmix=1.0, seed=1)
    first = mixing.mix(*given, 3, 4)
    mixing.mix(*given, 0, 0)  # what was drawn before has no influence
    for a, b in zip(first, mixing.mix(*given, 3, 4), strict=True):
        np.testing.assert_array_equal(a, b)
    others = [mixing.mix(*given, 3, 5), mixing.mix(*given, 2, 4), Mixing(0.4, 1.0, seed=2).mix(*given, 3, 4)]
    assert all(not np.array_equal(first[0], other[0]) for other in others)


def test_where_both_are_on_each_batch_takes_one_of_them() -> None:
    given = batch()
    mixing = Mixing(mixup=1.0, cutmix=1.0, seed=0)
    blended = [np.ptp(mixing.mix(*given, 0, number)[0], axis=(1, 2, 3)).max() == 0 for number in range(60)]
    assert 15 <= sum(blended) <= 45


def test_the_arrays_given_stay_as_they_are() -> None:
    given = batch()
    copies = [array.copy() for array in given]
    Mixing(mixup=1.0, cutmix=1.0).mix(*given, 0, 0)
    Mixing(cutmix=1.0).mix(*given, 0, 0)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_weights_are_drawn_from_the_beta_distribution() -> None:
    from scipy import stats

    n = 400
    images, targets = np.zeros((n, 1, 1, 1), np.float32), np.eye(n, dtype=np.float32)
    _, soft, _ = Mixing(mixup=0.5, seed=4).mix(images, targets, np.ones(n, np.float32), 0, 0)
    share = soft[np.arange(n), np.arange(n)]
    assert stats.kstest(share[share < 1], stats.beta(0.5, 0.5).cdf).pvalue > 0.01
