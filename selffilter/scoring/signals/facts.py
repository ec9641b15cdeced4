"""What a signal is given: the pairs to score, and what it must remember besides them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from selffilter.scoring.moments import SecondMoments


@dataclass(frozen=True)
class Pairs:
    """B pairs as the scoring model encodes them.

    Attributes:
        image_features_BD: Unit-norm, float32.
        text_features_BD: Likewise.
        row_B: Which rows they are, int64.
        flipped_image_features_BD: Of the images mirrored left to right; None unless a signal
            needs ``"flipped"``.
        reference: The same pairs as the reference model encodes them (its width may be another);
            None unless a signal needs ``"reference"``.
    """

    image_features_BD: Tensor
    text_features_BD: Tensor
    row_B: Tensor
    flipped_image_features_BD: Tensor | None = None
    reference: Pairs | None = None

    def crossed(self, image_n: Tensor, text: Tensor | slice) -> Pairs:
        """Pair some of the images with some of the captions, by their places.

        Args:
            image_n: Of each image, (n,) int64; with it go its row and its mirror image.
            text: Of each caption, (n,) int64, or a slice of n.
        """
        flipped = self.flipped_image_features_BD
        return Pairs(
            self.image_features_BD[image_n],
            self.text_features_BD[text],
            self.row_B[image_n],
            None if flipped is None else flipped[image_n],
            self.reference and self.reference.crossed(image_n, text),
        )


@dataclass(frozen=True)
class Bank:
    """Pairs of the pool that others are compared with, encoded by the model that scores.

    Attributes:
        image_features_MD: Unit-norm, float32.
        text_features_MD: Likewise.
        row_M: Which rows they are, int64.
        reference: The same rows as the reference model encodes them.
    """

    image_features_MD: Tensor
    text_features_MD: Tensor
    row_M: Tensor
    reference: Bank | None = None


@dataclass(frozen=True)
class Target:
    """A target set, encoded by the model that scores.

    Attributes:
        moments: Its second moments.
        image_features_MD: Unit-norm, float32; None where only the moments were kept.
    """

    moments: SecondMoments
    image_features_MD: Tensor | None = None


@dataclass(frozen=True)
class Facts:
    """The scoring model's temperature, and what the signals in use asked for (`Signal.needs`).

    Attributes:
        temperature: τ = 1/logit_scale.exp().
        logit_bias: b of a model for the sigmoid loss; None for one of the softmax loss.
        bank: ``"bank"``.
        moments: ``"moments"``: second moments of the whole pool, or of the bank in its place.
        target: ``"target"``.
        reference: ``"reference"``: the same of the reference model.
    """

    temperature: float
    bank: Bank | None = None
    logit_bias: float | None = None
    moments: SecondMoments | None = None
    target: Target | None = None
    reference: Facts | None = None
