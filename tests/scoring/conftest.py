"""Features near each other, as those of a trained model at a low temperature."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from selffilter.scoring.embeddings.folder import EmbeddingWriter, open_folder
from selffilter.scoring.signals.facts import Bank, Facts, Pairs

TAU = 0.01


@pytest.fixture
def case():
    """40 rows, a bank of 64 rows with 10 of them in it, and every cosine above 0.9."""
    generator = torch.Generator().manual_seed(0)
    image, text = (
        F.normalize(1 + 0.2 * torch.randn(94, 16, generator=generator), dim=-1) for _ in range(2)
    )
    row = torch.arange(100, 194)
    of_bank = torch.randperm(54, generator=generator).tolist() + list(range(84, 94))
    bank = Bank(image[of_bank], text[of_bank], row[of_bank])
    rows = slice(54, 94)
    return SimpleNamespace(
        image=image[rows],
        text=text[rows],
        row=row[rows],
        pairs=Pairs(image[rows], text[rows], row[rows]),
        bank=bank,
        facts=Facts(TAU, bank),
    )


@pytest.fixture
def reference():
    """The sums of a pair, plainly, in float64: own cosine, both log-sums, number of terms."""

    def sums(case):
        image, text, bank_image, bank_text = (
            f.numpy().astype(np.float64)
            for f in (
                case.image, case.text, case.bank.image_features_MD, case.bank.text_features_MD,
            )
        )  # fmt: skip
        found = []
        for u, v, row in zip(image, text, case.row.tolist(), strict=True):
            others = [j for j, other in enumerate(case.bank.row_M.tolist()) if other != row]
            to_text = [u @ v] + [u @ bank_text[j] for j in others]
            to_image = [u @ v] + [v @ bank_image[j] for j in others]
            found.append((u @ v, log_sum(to_text), log_sum(to_image), len(to_text)))
        return np.array(found).T

    return sums


def log_sum(cosines):
    logits = np.sort(np.array(cosines) / TAU)
    return logits[-1] + np.log(np.exp(logits - logits[-1]).sum())


@pytest.fixture
def store(tmp_path):
    """Write features as embeddings of our own, shard by shard; row i has the uid i unless told."""

    def stored(image, text, sizes=None, uids=None, name="embeddings"):
        count, width = image.shape
        sizes = sizes or [count]
        rows = np.arange(count)
        uids = np.stack([np.zeros_like(rows), rows], 1).astype(np.uint64) if uids is None else uids
        writer = EmbeddingWriter(tmp_path / name, width, len(sizes), {"model": "of a test"})
        for shard, stop in enumerate(np.cumsum(sizes)):
            part = slice(stop - sizes[shard], stop)
            writer.write(shard, rows[part], uids[part], [(image[part], text[part])])
        return open_folder(tmp_path / name)

    return stored


def features(rows, width, seed, spread=0.2):
    """Unit features near each other, as float16 would keep them."""
    generator = torch.Generator().manual_seed(seed)
    near = F.normalize(1 + spread * torch.randn(rows, width, generator=generator), dim=-1)
    return F.normalize(near.half().float(), dim=-1)


@pytest.fixture
def make_features():
    return features
