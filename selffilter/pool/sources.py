"""From what the user writes under ``pool.shards`` to a list of tars."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

import braceexpand

from selffilter.errors import UserError

_PATTERN = set("*?[{")


@dataclass(frozen=True)
class ShardPath:
    """One tar on disk.

    Attributes:
        source: Name of the source it belongs to.
        relative: Path below the source's folder; with `source` it names the shard wherever the
            pool is moved to.
        path: Where it lies now.
    """

    source: str
    relative: str
    path: Path


def list_shards(specs: list[str]) -> list[ShardPath]:
    """List the tars of all sources, each source in the order of its file names.

    Args:
        specs: Folders, globs or brace patterns; ``name=pattern`` names the source, otherwise its
            folder's name does.

    Raises:
        UserError: A source without tars, or two sources of one name.
    """
    shards: list[ShardPath] = []
    seen: dict[str, str] = {}
    for spec in specs:
        name, pattern = split_name(spec)
        root = _fixed_part(pattern)
        name = name or root.resolve().name
        if name in seen:
            raise UserError(
                f"two sources are called {name!r}: {seen[name]} and {spec}. Name them apart: "
                f"pool.shards='[first={split_name(seen[name])[1]},second={pattern}]'."
            )
        seen[name] = spec
        paths = _expand(pattern)
        if not paths:
            raise UserError(f"pool.shards: no .tar found at {pattern!r}.")
        shards += [ShardPath(name, str(path.relative_to(root)), path) for path in paths]
    return shards


def split_name(spec: str) -> tuple[str, str]:
    """Split ``name=pattern``; the name is "" where none is given."""
    name, equals, pattern = spec.partition("=")
    if equals and name and not (set(name) & (_PATTERN | {"/"})):
        return name, pattern
    return "", spec


def _fixed_part(pattern: str) -> Path:
    """Return the folder above the first wildcard (or the folder itself)."""
    path = Path(pattern).expanduser()
    if not set(pattern) & _PATTERN:
        return path if path.is_dir() else path.parent
    fixed: list[str] = []
    for part in path.parts[:-1]:
        if set(part) & _PATTERN:
            break
        fixed.append(part)
    return Path(*fixed) if fixed else Path()


def _expand(pattern: str) -> list[Path]:
    found: set[Path] = set()
    for one in braceexpand.braceexpand(str(Path(pattern).expanduser())):
        path = Path(one)
        if path.is_dir():
            found.update(path.glob("*.tar"))
        elif set(one) & _PATTERN:
            found.update(Path(hit) for hit in glob.glob(one, recursive=True))  # noqa: PTH207
        elif path.is_file():
            found.add(path)
        else:
            raise UserError(f"pool.shards: there is no {one}.")
    return sorted(path for path in found if path.suffix == ".tar")
