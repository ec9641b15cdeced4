"""Opening a run: everything that can be wrong is found here, before any training."""

from __future__ import annotations

import hashlib
from pathlib import Path

from selffilter import environment
from selffilter.clip.checkpoint import fingerprint
from selffilter.clip.model import ClipRecipe, find_recipe
from selffilter.clip.starting import build_to_train, pretrained_weights
from selffilter.config import Config, read_run_config, refuse_changed, to_yaml
from selffilter.errors import UserError
from selffilter.evaluation.sets import open_sets
from selffilter.evaluation.truth import Truth
from selffilter.indexing import open_pool
from selffilter.interrupt import StopRequest
from selffilter.planning import outlook
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.scoring.given import GivenScores
from selffilter.scoring.signals.find import find_signal
from selffilter.store import RunStore, read_json, write_json, write_text
from selffilter.tracking.console import Screen


def open_run(config: Config, store: RunStore, screen: Screen, stop: StopRequest) -> dict[str, str]:
    """Create the run directory, or check that this config may go on with the one there is.

    Returns:
        ``index_dir`` and ``version`` of the pool index that the run is pinned to.

    Raises:
        UserError: For whatever would end the run later.
        Stopped: When asked to, while indexing.
    """
    recipe = find_recipe(config.model.name, config.model.pretrained)
    build_to_train(recipe, config.model, fresh=False, device="meta")
    open_sets(config.evaluate.zero_shot)
    if config.score.signal == "given":
        GivenScores(Path(str(config.score.given_scores)))
    else:
        find_signal(config.score.signal)
    record_path = store.root / "environment.json"
    if store.config_path.exists() and record_path.exists():
        refuse_changed(read_run_config(store.config_path), config)
        record = read_json(record_path)
        pinned: dict[str, str] = record["pool"]
        if record.get("subset_sha256") != _subset_hash(config):
            raise UserError(
                f"pool.subset={config.pool.subset} has changed since the run was begun with it: "
                "put the file back, or give the new run another name (name=…)."
            )
        if record.get("pretrained_fingerprint") != _pretrained(config, recipe):
            raise UserError(
                f"model.pretrained={config.model.pretrained} has changed since the run was begun "
                "with it: put the weights back, or give the new run another name (name=…)."
            )
        _pool(config, pinned).check_shards(config.pool.allow_pipe)
        _check_truth(config, _pool(config, pinned))
        for difference in environment.version_differences(record):
            screen.say(f"note: {difference}")
        return pinned

    pinned = open_pool(config, screen, stop)
    pool = _pool(config, pinned)
    base = Base.of(pool, config)
    outlook(config, base.size, pool.rows, flops=1, parameters=0)
    _check_truth(config, pool)
    described = environment.describe(config.seed)
    subset = {"subset_sha256": _subset_hash(config)} if config.pool.subset else {}
    weights = _pretrained(config, recipe)
    begun = {"pretrained_fingerprint": weights} if weights else {}
    write_json(record_path, described | {"pool": pinned} | subset | begun)
    write_text(store.config_path, to_yaml(config))
    return pinned


def _pretrained(config: Config, recipe: ClipRecipe) -> str | None:
    name = config.model.pretrained
    return None if name is None else fingerprint(pretrained_weights(recipe, name))


def _subset_hash(config: Config) -> str | None:
    path = config.pool.subset
    try:
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"pool.subset={path} cannot be read: {error}") from error


def _check_truth(config: Config, pool: Pool) -> None:
    if config.evaluate.truth:
        Truth(Path(config.evaluate.truth), pool)


def _pool(config: Config, pinned: dict[str, str]) -> Pool:
    return Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
