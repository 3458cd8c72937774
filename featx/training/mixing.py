"""Soft targets: label smoothing, mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Every image is mixed with a partner from its own batch, by a weight of its own, and its target becomes the mean of the
two targets by that weight. All of it is drawn from (seed, epoch, batch), so a resumed training mixes as it would have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.training.targets import Targets

_STREAM = 0x6D6978  # keeps these numbers apart from others that are drawn from (seed, epoch)


@dataclass(frozen=True)
class Mixing:
    """How strongly images are mixed. Where both are on, each batch takes one of them, as likely as the other.

    mixup, cutmix : the parameter alpha of the Beta(alpha, alpha) distribution that weights are drawn from; 0: off.
        1 draws every weight as likely, smaller ones leave most images almost as they are
    label_smoothing : the part of every target that is spread evenly, before images are mixed
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    label_smoothing: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at all."""
        return self.mixup > 0 or self.cutmix > 0

    def alter(
        self, targets: Targets, rows: np.ndarray, inputs: np.ndarray, number: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inputs, values and weights of a batch as it is trained on.

        Where nothing is altered, the values are those of the targets; else they are shares of classes, (n, k).

        Parameters
        ----------
        targets : of all rows
        rows : int64 (n,), those of the batch
        inputs : (n, ...), what the network is given of them
        number : (epoch, batch) of the training, from 0 on
        """
        values, weight = targets.values[rows], targets.weight[rows]
        if not (self.label_smoothing or self.mixes):
            return inputs, values, weight
        return self.mix(inputs, targets.shares(values, self.label_smoothing), weight, *number)

    def mix(
        self, images: np.ndarray, targets: np.ndarray, weight: np.ndarray, epoch: int, batch: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, targets and weights of the same shapes, mixed; the arrays that are given stay as they are.

        Parameters
        ----------
        images : (n, height, width, channels); the mixed ones are float32
        targets : float32 (n, k), such as one-hot rows
        weight : float32 (n,), what each image counts in the loss. A mixed image counts as much as its parts do
            together: the cross-entropy of the result is the mean of the parts' weighted cross-entropies.
        epoch, batch : which batch of the training it is, from 0 on
        """
        if not self.mixes:
            return images, targets, weight
        images = np.asarray(images, np.float32)  # cached maps may be float16
        generator = np.random.default_rng((self.seed, epoch, batch, _STREAM))
        partner = generator.permutation(len(images))
        if self._takes_cutmix(generator):
            images, share = _paste(images, partner, generator.beta(self.cutmix, self.cutmix, len(images)), generator)
        else:
            share = generator.beta(self.mixup, self.mixup, len(images))
            images = _blend(images, images[partner], share)
        own, other = share * weight, (1 - share) * weight[partner]
        total = own + other
        part = np.divide(own, total, out=np.ones_like(own), where=total > 0)
        return images, _blend(targets, targets[partner], part), total.astype(np.float32)

    def _takes_cutmix(self, generator: np.random.Generator) -> bool:
        if self.mixup > 0 and self.cutmix > 0:
            return bool(generator.random() < 0.5)
        return self.cutmix > 0


NO_MIXING = Mixing()


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean of two arrays; row i of the first counts share[i]."""
    factor = share.astype(np.float32).reshape(-1, *[1] * (first.ndim - 1))
    return np.asarray(factor * first + (1 - factor) * second)


def _paste(
    images: np.ndarray, partner: np.ndarray, share: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a box of its partner into each image; also return the share of each image that is left of itself.

    The box has the image's proportions and 1 - share of its area before it is cut off at the edges, around a centre
    that is anywhere in the image.
    """
    height, width = images.shape[1:3]
    side = np.sqrt(1 - share)
    centre = generator.random((2, len(images)))
    top, bottom = _span(centre[0], side, height)
    left, right = _span(centre[1], side, width)
    pasted = images.copy()
    for i, j in enumerate(partner):
        box = (slice(top[i], bottom[i]), slice(left[i], right[i]))
        pasted[i][box] = images[j][box]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: np.ndarray, side: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 pixel of stretches around `centre`, both given as shares of `length`."""
    middle, half = centre * length, side * length / 2
    low, high = (np.clip(np.round(middle + sign * half), 0, length).astype(np.int64) for sign in (-1, 1))
    return low, high
