"""What a run depends on besides its config and its pool: files that must stay what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from selffilter.clip.checkpoint import fingerprint
from selffilter.clip.model import ClipRecipe
from selffilter.clip.reference import open_reference
from selffilter.clip.starting import pretrained_weights
from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.evaluation.sets import open_sets
from selffilter.targets import open_target


def inputs_of(config: Config, recipe: ClipRecipe) -> dict[str, tuple[str, str | None]]:
    """Return the inputs that a config names, as they are now.

    Returns:
        Key in environment.json → field and value; a fingerprint, or None where there is none.
    """
    weights, target, reference = (
        config.model.pretrained,
        config.score.target,
        config.score.reference,
    )
    return {
        "subset_sha256": (f"pool.subset={config.pool.subset}", _subset_hash(config)),
        "pretrained_fingerprint": (
            f"model.pretrained={weights}",
            None if weights is None else fingerprint(pretrained_weights(recipe, weights)),
        ),
        "without_fingerprint": (
            f"select.without={config.select.without}",
            " ".join(data.fingerprint for data in open_sets(config.select.without)) or None,
        ),
        "target_fingerprint": (
            f"score.target={target}",
            None if target is None else open_target(target).fingerprint,
        ),
        "reference_fingerprint": (
            f"score.reference={reference}",
            None
            if reference is None
            else open_reference(reference, recipe, asked_as="score.reference").fingerprint,
        ),
    }


def fingerprints(config: Config, recipe: ClipRecipe) -> dict[str, str]:
    """Return what environment.json says of the inputs that there are."""
    return {key: now for key, (_, now) in inputs_of(config, recipe).items() if now is not None}


def _subset_hash(config: Config) -> str | None:
    path = config.pool.subset
    try:
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"pool.subset={path} cannot be read: {error}") from error
