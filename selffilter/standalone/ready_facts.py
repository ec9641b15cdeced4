"""What signals over ready embeddings must remember: made once, read by every part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.interrupt import StopRequest
from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.permutation import permuted_neg_clip_loss
from selffilter.scoring.pool_pass import read_bank
from selffilter.scoring.ready import draw_bank, identities, pool_moments
from selffilter.scoring.signals.facts import Bank, Facts
from selffilter.standalone.facts_on_disk import (
    facts_file,
    load_moments,
    load_target_file,
    save_bank,
    save_moments,
    save_target,
)
from selffilter.standalone.ready_scorer import ReadyScorer
from selffilter.standalone.settings import PERMUTATION
from selffilter.standalone.sharing import counting
from selffilter.store import write_atomically, write_once
from selffilter.tracking.console import Screen


def usable_file(out: Path) -> Path:
    """Return where it says why each row is unusable, (N,) uint8."""
    return facts_file(out, "usable.npy")


def permuted_file(out: Path) -> Path:
    """Return where the scores by `PERMUTATION` of the whole pool lie, (N,) float32."""
    return facts_file(out, f"{PERMUTATION}.npy")


def prepare(asked: ReadyScorer, device: torch.device, screen: Screen, stop: StopRequest) -> None:
    """Write what all parts need, as far as it is not there: one process does it for all.

    Raises:
        UserError: If there is no usable row, or a part is to do what only the whole can.
        Stopped: If asked to; what is finished stays.
    """
    if not asked.looks_at_embeddings:
        return
    embeddings, out = asked.embeddings, asked.out
    permute = asked.permutes and not permuted_file(out).exists()
    if permute and asked.settings.part[1] > 1:
        raise UserError(
            f"{PERMUTATION} is of the whole pool at once, not of a part: score it without --part, "
            "or in a folder of its own."
        )
    write_once(usable_file(out), lambda aside: _write_reasons(aside, asked, screen, stop))
    usable_N = np.load(usable_file(out)) == 0
    if not usable_N.any():
        raise UserError(f"{embeddings.folder} has no usable row.")
    if "bank" in asked.needs:
        path = facts_file(out, "bank.safetensors")
        write_once(path, lambda aside: save_bank(aside, _bank(asked, usable_N)))
    if "moments" in asked.needs:

        def write_moments(aside: Path) -> None:
            with screen.bar("moments", embeddings.rows) as bar:
                progress = counting(bar, stop)
                save_moments(
                    aside, pool_moments(embeddings, usable_N, device=device, progress=progress)
                )

        write_once(facts_file(out, "moments.safetensors"), write_moments)
    if (target := asked.target) is not None:
        path = facts_file(out, "target.safetensors")
        write_once(path, lambda aside: save_target(aside, target.encode(asked, device, screen)))
    if permute:
        write_once(
            permuted_file(out),
            lambda aside: _write_permuted(aside, asked, usable_N, device, screen, stop),
        )


def read_facts(asked: ReadyScorer, device: torch.device) -> Facts:
    """Return all that the signals need, on the device."""
    facts, out = asked.facts, asked.out
    if "bank" in asked.needs:
        facts = replace(facts, bank=read_bank(facts_file(out, "bank.safetensors"), device))
    if "moments" in asked.needs:
        moments = load_moments(facts_file(out, "moments.safetensors"), device)
        facts = replace(facts, moments=moments)
    if "target" in asked.needs:
        target = load_target_file(facts_file(out, "target.safetensors"), device)
        facts = replace(facts, target=target)
    if facts.reference is not None and facts.bank is not None:
        facts = replace(facts, reference=replace(facts.reference, bank=facts.bank.reference))
    return facts


def _write_reasons(aside: Path, asked: ReadyScorer, screen: Screen, stop: StopRequest) -> None:
    """Write why each row is unusable: by the embeddings, or else by those of the reference."""
    both = [asked.embeddings, *([asked.reference] if asked.reference else [])]
    with screen.bar("look for unusable rows", sum(each.rows for each in both)) as bar:
        progress = counting(bar, stop)
        reason_N, *others = (unusable_rows(each, progress=progress) for each in both)
    for other_N in others:
        reason_N = np.where(reason_N == 0, other_N, reason_N)
    write_atomically(aside, lambda file: np.save(file, reason_N))


def _bank(asked: ReadyScorer, usable_N: NDArray[np.bool_]) -> Bank:
    embeddings, settings = asked.embeddings, asked.settings
    identity_N = identities(embeddings)
    bank = draw_bank(embeddings, identity_N, usable_N, settings.bank_size, settings.seed)
    if asked.reference is None:
        return bank
    image_MD, text_MD = (
        asked.reference.gather(side, bank.row_M.numpy()) for side in asked.reference.sides
    )
    return replace(bank, reference=Bank(image_MD, text_MD, bank.row_M))


def _write_permuted(
    aside: Path,
    asked: ReadyScorer,
    usable_N: NDArray[np.bool_],
    device: torch.device,
    screen: Screen,
    stop: StopRequest,
) -> None:
    settings = asked.settings
    with screen.bar(PERMUTATION, settings.draws * int(usable_N.sum())) as bar:
        score_N = permuted_neg_clip_loss(
            asked.embeddings,
            identities(asked.embeddings),
            usable_N,
            temperature=asked.facts.temperature,
            seed=settings.seed,
            batch_size=settings.permutation_batch,
            draws=settings.draws,
            device=device,
            progress=counting(bar, stop),
        )
    write_atomically(aside, lambda file: np.save(file, score_N))
