"""`selffilter score`: any scorer over a pool, or over embeddings that are ready.

```
OUT/scores.json             whose rows, which scorer; see `record`
OUT/SSSSS.parquet           a shard's (or part's) score table, as a run has it; see `tables`
OUT/facts/                  what signals must remember; see `facts_on_disk`
OUT/embeddings/             if asked for; see `scoring.embeddings.folder`
```

A file is there = its shard is scored. Several jobs and ranks may work on one folder.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from selffilter.begun import sweep_folder
from selffilter.errors import UserError
from selffilter.interrupt import Stopped, StopRequest
from selffilter.standalone.embeddings_source import score_ready
from selffilter.standalone.folders import reasons_of
from selffilter.standalone.pool_source import score_pool
from selffilter.standalone.record import read_record
from selffilter.standalone.scorers import is_embeddings
from selffilter.standalone.settings import ScoreSettings
from selffilter.tables import read_table, shard_file
from selffilter.team import Team
from selffilter.tracking.console import Screen


def run_score(
    sources: list[str], out: Path, settings: ScoreSettings, team: Team, screen: Screen
) -> None:
    """Score, or go on with it, and print what is there.

    Args:
        sources: Shards, an index, or a folder of embeddings.
        out: The folder of scores.
        settings: With what, and how; checked.
        team: The ranks.
        screen: Where a person looks.

    Raises:
        UserError: If something that is named is not there or does not fit.
        Stopped: If asked to; what is scored stays.
    """
    team.while_waiting = (stop := StopRequest()).check_torn_down
    with stop:
        try:
            if len(sources) == 1 and is_embeddings(sources[0]):
                score_ready(Path(sources[0]), out, settings, team, screen, stop)
            elif settings.model is None:
                raise UserError(
                    f"{', '.join(sources)}: these are no ready embeddings, so say with --model "
                    "what is to score them."
                )
            else:
                score_pool(sources, out, settings, team, screen, stop)
            team.wait_for_all()
        except Stopped:
            stop.check_torn_down()
            raise
    if team.is_main:
        said, complete = _account(out)
        print(said)
        if complete:  # nobody else has anything to do here
            sweep_folder(out)


def _account(out: Path) -> tuple[str, bool]:
    """Return what is there, as text, and whether it is complete."""
    record = read_record(out)
    shards = range(record["source"]["shards"])
    names = record["scorer"]["signals"]
    there = [path for shard in shards if (path := shard_file(out, shard)).exists()]
    reasons: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    rows = 0
    for path in there:
        table = read_table(path, [*names, "failure"])
        rows += table.num_rows
        reasons.update(reasons_of(table["failure"].to_numpy()))
        for name in names:
            scored[name] += int(np.isfinite(table[name].to_numpy()).sum())
    lines = [f"{out}: {rows:,} rows in {len(there):,} of {len(shards):,} shards"]
    lines += [f"  {name}: {scored[name]:,} scored" for name in names]
    if reasons:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        lines.append(f"  unusable: {listed}")
    if len(there) < len(shards):
        lines.append("  the other parts write the rest")
    return "\n".join(lines), len(there) == len(shards)
