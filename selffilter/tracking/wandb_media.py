"""What W&B calls tables and artifacts, of what a run has to show."""

from __future__ import annotations

import math
from pathlib import Path

import wandb

from selffilter.tracking.shown import Output, SampleTable

FILES_BELOW_BYTES = 50_000_000
"""Large files of an output are uploaded if all of them together are at most this, else referred to
where they lie; the exported model is always uploaded."""

MOST_REFERENCES = 10_000
"""Of more shards ``path`` among the metadata alone says where they lie; W&B itself refers to no
folder with more."""

COLUMNS = ("image", "caption", "score", "place", "place_before", "share", "uid", "row")


def table_of(table: SampleTable) -> wandb.Table:
    """Return a table with a picture, plain text and numbers a row; see `Example`."""
    rows = []
    for each in table.examples:
        image = None if each.image is None else wandb.Image(each.image, file_type="jpg")
        numbers = [_finite(value) for value in (each.score, each.place, each.place_before)]
        rows.append([image, each.caption, *numbers, each.share, each.uid, each.row])
    # A column may lack a value anywhere: no score, no picture.
    return wandb.Table(columns=list(COLUMNS), data=rows, allow_mixed_types=True)


def artifact_of(output: Output, run_id: str) -> wandb.Artifact:
    """Return an output as an artifact ``KIND-RUN_ID``.

    Its metadata say what it was made from (``made_from``: names and aliases of the run's other
    artifacts). W&B's own graph needs a server that knows them already, which offline is not there.
    Files are read where they lie: copies of a pool's tables would fill W&B's cache.

    Args:
        output: What the run has made.
        run_id: Of the W&B run.
    """
    made_from = [f"{kind}-{run_id}:{version}" for kind, version in map(_parts, output.made_from)]
    about = {**output.about, "made_from": made_from, "path": str(output.root.resolve())}
    artifact = wandb.Artifact(f"{output.kind}-{run_id}", type=output.kind, metadata=about)
    for path in output.small:
        _add(artifact, output.root, path)
    large = [path for path in output.large if path.exists()]
    if sum(path.stat().st_size for path in large) <= FILES_BELOW_BYTES:
        for path in large:
            _add(artifact, output.root, path)
    elif len(large) <= MOST_REFERENCES:
        for path in large:
            # Reading 10⁹ rows again for their checksums is not worth it: each file is written once.
            name = str(path.relative_to(output.root))
            artifact.add_reference(path.resolve().as_uri(), name=name, checksum=False)
    return artifact


def _add(artifact: wandb.Artifact, root: Path, path: Path) -> None:
    name = str(path.relative_to(root))
    artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)


def _parts(name: str) -> tuple[str, str]:
    kind, _, version = name.partition(":")
    return kind, version


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
