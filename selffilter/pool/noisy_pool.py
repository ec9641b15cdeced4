"""A pool written anew with planted noise, and the truth about it beside it.

```
OUT/pool/SSSSS.tar         as many samples as could be used, in the order of the source
OUT/truth.parquet          uid, clean, kind, source_uid, original_caption
OUT/truth_scores.parquet   uid, score: the oracle
OUT/noise.json             what was planted, how, in what; written last: OUT is complete
OUT/.work/                 until then
```

Captions and labels are held in memory; of images one at a time. Nothing in the tars tells what was
planted: keys are the uids, members stand in one order under one owner and time, and of the json
only fields that speak of a sample's origin are left (its uid among them, so that identity does not
hang on where it lies).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selffilter import environment
from selffilter.begun import (
    WORK,
    begin_folder,
    begun_path,
    finish_folder,
    look_at_folder,
    sweep_folder,
)
from selffilter.errors import UserError
from selffilter.pool.failures import count_by_reason
from selffilter.pool.index import Pool, build_index
from selffilter.pool.noise.check import doubtful
from selffilter.pool.noise.near_duplicates import COPIES_PER_SOURCE
from selffilter.pool.noise.plant import counts_of, plant
from selffilter.pool.noise.planted import Kind, Planted
from selffilter.pool.noise.settings import NoiseSettings
from selffilter.pool.noise.texts import repeated_share
from selffilter.pool.noise.truth import write_truth
from selffilter.pool.noisy_source import NoiseSource
from selffilter.pool.sources import list_shards
from selffilter.pool.stores.find import Stores
from selffilter.pool.writing import write_tar
from selffilter.progress import Bar, NoBar
from selffilter.randomness import key_from
from selffilter.store import read_json

_REPORT = "noise.json"


def write_noisy_pool(
    specs: list[str],
    out: Path,
    settings: NoiseSettings,
    *,
    bar: Callable[[str, int], AbstractContextManager[Bar]] = lambda *_: nullcontext(NoBar()),
) -> dict[str, Any]:
    """Write a pool with noise, or go on with it, or find it complete.

    Images are not decoded, but for the sources of near-duplicates and where text takes their place.

    Args:
        specs: The source; see `sources.list_shards`.
        out: Where; see this module's head.
        settings: What to plant.
        bar: Shows progress of something named, over so many of it.

    Returns:
        What stands in ``noise.json``.

    Raises:
        UserError: If the source cannot be used, or `out` holds something else.
    """
    settings.check()
    stores = Stores()
    asked = _plain(settings) | {
        "shards": [
            {
                "source": s.source,
                "relative": s.relative,
                "bytes": stores.of(s.location).stat(s.location).size,
            }
            for s in list_shards(specs)
        ]
    }
    others = {"shards": "from other shards"}
    if (done := look_at_folder(out, _REPORT, asked, "noisy pool", others)) is not None:
        return done
    sweep_folder(out)
    index_dir = out / WORK / f"index-{key_from(json.dumps(asked['shards'])):016x}"
    version = build_index(
        specs,
        index_dir,
        caption_key=settings.caption_key,
        bar=lambda total: bar("indexing shards", total),
    )
    source = NoiseSource(Pool(index_dir, version, settings.caption_key), settings)
    with bar("reading captions", source.pool.shards) as shown:
        source.read(shown)
    counts = counts_of(len(source.texts), settings.rate, settings.proportions())
    if not any(counts.values()):
        raise UserError(f"--rate {settings.rate} of {len(source.texts)} samples is none.")
    planted = plant(
        source.texts,
        counts,
        settings.seed,
        copies_per_source=settings.copies_per_source or COPIES_PER_SOURCE,
        is_usable=source.can_be_copied,
    )
    _pin_plan(out, asked, source, planted)
    with bar("writing shards", source.pool.shards) as shown:
        for shard in range(source.pool.shards):
            path = out / "pool" / f"{shard:0{max(5, len(str(source.pool.shards - 1)))}d}.tar"
            # A shard that is there was written by this plan: see _pin_plan.
            if source.counts_S[shard] and not path.exists():
                write_tar(path, source.samples(shard, planted))
            shown.advance(1)
    write_truth(out, source.uid_texts, source.texts.captions, planted)
    report = _report(asked, source, planted, counts)
    finish_folder(out, _REPORT, report)
    return report


def _plain(settings: NoiseSettings) -> dict[str, Any]:
    """Return the settings as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _pin_plan(out: Path, asked: dict[str, Any], source: NoiseSource, planted: Planted) -> None:
    """Write down what is planted before the first shard is; or check that it is still the same."""
    digest = hashlib.sha256(source.pool.version.encode())
    digest.update(planted.kind_N.tobytes() + planted.source_N.tobytes())
    for uid, caption in zip(source.uid_texts, planted.captions, strict=True):
        digest.update(f"{uid}\x1f{caption}\x1e".encode())
    if not begun_path(out).exists():
        begin_folder(out, asked, plan=digest.hexdigest())
    elif read_json(begun_path(out))["plan"] != digest.hexdigest():
        raise UserError(f"the source has changed since {out} was begun: remove {out}.")


def _report(
    asked: dict[str, Any], source: NoiseSource, planted: Planted, counts: Mapping[Kind, int]
) -> dict[str, Any]:
    pool, texts = source.pool, source.texts
    return {
        "kind": asked["kind"],
        "rate": asked["rate"],
        "seed": asked["seed"],
        "samples": len(texts),
        "asked": {kind.name: count for kind, count in counts.items()},
        "planted": planted.counts(),
        "clean": int(planted.clean_N.sum()),
        "left_out": count_by_reason(source.failure_N),
        "problems": pool.problems(),
        "repeated_captions": {
            "before": repeated_share(texts.captions),
            "after": repeated_share(planted.captions),
        },
        "doubtful": doubtful(texts, planted),
        "samples_by_shard": source.counts_S.tolist(),
        "settings": asked,
        "made_with": environment.describe(asked["seed"]),
    }


def describe_noise(report: Mapping[str, Any], out: Path) -> str:
    """Return what was planted, and what to do with it, as text.

    Args:
        report: What `write_noisy_pool` returned.
        out: Where it wrote.
    """
    left_out = "".join(f", {count:,} {reason}" for reason, count in report["left_out"].items())
    shards, repeated = report["settings"]["shards"], report["repeated_captions"]
    lines = [
        f"{report['samples']:,} samples from {len(shards):,} shards"
        + (f" (left out{left_out[1:]})" if left_out else "")
    ]
    lines += [f"broken: {problem}" for problem in report["problems"]]
    for kind, asked in report["asked"].items():
        made = report["planted"].get(kind, 0)
        short = f"   of {asked:,} asked: no more could be planted" if made < asked else ""
        lines.append(f"  {kind:16}{made:>12,}{short}")
    lines += [
        f"  {'untouched':16}{report['clean']:>12,}   (unknown, not clean: the pool's own noise)",
        f"rows with a repeated caption: {repeated['before']:.1%}, now {repeated['after']:.1%}",
    ]
    if any(report["doubtful"].values()):
        lines.append(
            "exchanged captions that may yet be true: "
            f"{report['doubtful']['says_the_same']:,} say what the right one says, "
            f"{report['doubtful']['stands_for_label']:,} also stand at a row of the same label"
        )
    lines += [
        "\nTrain on it, and with the oracle:",
        f"  selffilter run CONFIG pool.shards='[{out / 'pool'}]' "
        f"evaluate.truth={out / 'truth.parquet'}",
        f"  … score.signal=given score.given_scores={out / 'truth_scores.parquet'}",
    ]
    return "\n".join(lines)
