"""Rows with several captions: a row's score is the mean over its captions.

A scoring batch has B images and T ≥ B captions; ``caption_of`` (T,) int64 is the place in the
batch of the row that each caption belongs to, ascending, each place once at least. Where every row
has one caption, T = B, nothing is gathered and nothing is added up: that costs what it always did.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selffilter.clip.model import encode, encode_image, encode_text
from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Signal


def encode_captions(model: nn.Module, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Encode the images of a batch and all their captions, at most B captions at a time.

    Args:
        model: In eval mode.
        image: (B, 3, H, W) float32.
        text: (T, L) int64.

    Returns:
        image_features_BD and text_features_TD, unit-norm, float32.
    """
    if len(text) == len(image):
        return encode(model, image, text)
    texts = [encode_text(model, part) for part in text.split(len(image))]
    return encode_image(model, image), torch.cat(texts)


def score_rows(signal: Signal, pairs: Pairs, caption_of_T: Tensor, facts: Facts) -> Tensor:
    """Score rows: the mean of the scores of each row's image with each of its captions.

    A signal is asked for at most B pairs at a time, so that memory does not grow with T.

    Args:
        signal: What scores pairs.
        pairs: B rows, but all T captions in ``text_features_BD`` (and in that of the reference).
        caption_of_T: See above.
        facts: What the signal needs.

    Returns:
        (B,) float32.
    """
    size = len(pairs.row_B)
    if len(caption_of_T) == size:
        return signal(pairs, facts).float()
    score_T = torch.cat(
        [
            signal(pairs.crossed(caption_of_T[part], part), facts)
            for part in (slice(at, at + size) for at in range(0, len(caption_of_T), size))
        ]
    )
    # Segment by segment: an index_add has no order of summation on a GPU.
    lengths = torch.bincount(caption_of_T, minlength=size)
    return torch.segment_reduce(score_T.double(), "mean", lengths=lengths).float()


def first_captions(text_features_TD: Tensor, caption_of_T: Tensor, rows: int) -> Tensor:
    """Return the features of the first caption of each of B rows, (B, D)."""
    if len(caption_of_T) == rows:
        return text_features_TD
    lengths = torch.bincount(caption_of_T, minlength=rows)
    return text_features_TD[lengths.cumsum(0) - lengths]
