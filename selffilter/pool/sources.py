"""From what the user writes under ``pool.shards`` to a list of tars."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import braceexpand

from selffilter.errors import StoreGone, UserError
from selffilter.patience import LASTING, patiently
from selffilter.pool.hub import HubPage, hub_page
from selffilter.pool.stores.file_systems import call, file_system, plainly
from selffilter.pool.stores.find import is_remote
from selffilter.pool.stores.pipe import PIPE
from selffilter.pool.stores.remote import ATTEMPTS

_WILD = set("*?[")
_PATTERN = _WILD | {"{"}
_LISTING_S = 600.0


@dataclass(frozen=True)
class ShardPath:
    """One tar.

    Attributes:
        source: Name of the source it belongs to.
        relative: Path below the source's folder; with `source` it names the shard wherever the
            pool is moved to. Of a pipe its command.
        location: Where it lies now: a path, a URL or a ``pipe:`` command.
    """

    source: str
    relative: str
    location: str


def list_shards(specs: list[str], allow_pipe: bool = False) -> list[ShardPath]:
    """List the tars of all sources, each source in the order of its file names.

    Args:
        specs: Folders, globs or brace patterns, of paths or URLs; a data set's page on the Hugging
            Face hub; or ``pipe:COMMAND``, with braces. ``name=pattern`` names the source, otherwise
            its folder's name does.
        allow_pipe: Whether commands may be run.

    Raises:
        UserError: A source without tars, two sources of one name, two tars of one name, a pipe that
            is not allowed, a server that cannot be listed or needs a package that is missing.
        StoreGone: If a server does not answer.
    """
    shards: list[ShardPath] = []
    seen: dict[str, str] = {}
    for spec in specs:
        pattern, name = split_name(spec)[1], source_name(spec)
        if name in seen:
            _refuse_same_name(name, (seen[name], spec))
        seen[name] = spec
        if pattern.startswith(PIPE):
            refuse_pipes([pattern], allow_pipe)
            found = [(one.removeprefix(PIPE), one) for one in _braces(pattern)]
        else:
            found = _remote(_listable(pattern)) if is_remote(pattern) else _local(pattern)
        if not found:
            raise UserError(f"pool.shards: no .tar found at {pattern!r}.")
        (twice, times), *_ = Counter(relative for relative, _ in found).most_common(1)
        if times > 1:
            raise UserError(
                f"pool.shards: {pattern!r} names {twice!r} twice. Name each shard once, or make "
                "two sources of them: NAME=PATTERN."
            )
        shards += [ShardPath(name, relative, location) for relative, location in found]
    return shards


def _refuse_same_name(name: str, specs: tuple[str, str]) -> NoReturn:
    first, second = (split_name(spec)[1] for spec in specs)
    folders = {pattern.rpartition("/")[0] for pattern in (first, second)}
    if len(folders) == 1 and all(one.endswith(".tar") for one in (first, second)):
        # What becomes of a pattern without quotes.
        raise UserError(
            f"pool.shards: {first} and {second} are shards of one source. Name them together, by "
            "their folder, a glob or braces, and quote it: else the shell makes a list of it."
        )
    raise UserError(
        f"two sources are called {name!r}: {specs[0]} and {specs[1]}. Name them apart: "
        f"pool.shards='[first={first},second={second}]'."
    )


def split_name(spec: str) -> tuple[str, str]:
    """Split ``name=pattern``; the name is "" where none is given."""
    name, equals, pattern = spec.partition("=")
    if equals and name and not (set(name) & (_PATTERN | {"/"})) and not name.startswith(PIPE):
        return name, pattern
    return "", spec


def source_name(spec: str) -> str:
    """Return the name of the source that a spec describes."""
    name, pattern = split_name(spec)
    if name:
        return name
    if pattern.startswith(PIPE):
        return "pipe"
    if is_remote(pattern):
        page = _page(pattern)
        return page.name if page else _fixed_url(pattern).rstrip("/").rpartition("/")[2]
    return _fixed_part(pattern).resolve().name


def refuse_pipes(locations: Iterable[str], allow_pipe: bool) -> None:
    """Refuse to run commands that nobody has allowed.

    Raises:
        UserError: If a location is a command.
    """
    command = next((one for one in locations if one.startswith(PIPE)), None)
    if command is not None and not allow_pipe:
        raise UserError(
            f"pool.shards: {command!r} would run a shell command, with your rights, each time that "
            "the shard is read. If you trust it: pool.allow_pipe=true (--allow-pipe)."
        )


def _local(pattern: str) -> list[tuple[str, str]]:
    root = _fixed_part(pattern)
    found: set[Path] = set()
    for one in _braces(str(Path(pattern).expanduser())):
        path = Path(one)
        if path.is_dir():
            found.update(path.glob("*.tar"))
        elif set(one) & _WILD:
            found.update(Path(hit) for hit in glob.glob(one, recursive=True))  # noqa: PTH207
        elif path.is_file():
            found.add(path)
        else:
            raise UserError(f"pool.shards: there is no {one}.")
    relatives = sorted(path.relative_to(root) for path in found if path.suffix == ".tar")
    here = root.resolve()
    for relative in relatives:
        try:
            str(relative).encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"pool.shards: the name of {str(here / relative)!r} is not UTF-8, and no table can "
                "hold it: rename it."
            ) from error
    return [(str(relative), str(here / relative)) for relative in relatives]


def _remote(pattern: str) -> list[tuple[str, str]]:
    root = _fixed_url(pattern)
    found: set[str] = set()
    for one in _braces(pattern):
        if _wild(one) or not _without_query(one).endswith(".tar"):
            if _is_http(one):
                raise UserError(
                    f"pool.shards: {one} cannot be listed, a web server has no folders. Name the "
                    f"shards with braces: {root}/{{00000..00099}}.tar."
                )
            found.update(hit for hit in _list(one) if hit.endswith(".tar"))
        else:
            found.add(_canonical(one))
    start = _canonical(root).rstrip("/") + "/"
    named = sorted((_without_query(location), location) for location in found)
    return [(bare.removeprefix(start), location) for bare, location in named]


def _canonical(url: str) -> str:
    """Return an address as its file system writes it, so that two can be compared."""
    files = file_system(url)
    return str(files.unstrip_protocol(files._strip_protocol(url)))


def _listable(url: str) -> str:
    page = _page(url)
    return page.listed_url if page else url


def _page(url: str) -> HubPage | None:
    return None if _without_query(url).endswith(".tar") else hub_page(url)


def _list(url: str) -> list[str]:
    """Return the addresses of the files that a pattern, or a folder, stands for."""
    pattern = url if _wild(url) else f"{url.rstrip('/')}/*.tar"

    def ask() -> list[str]:
        files = file_system(url)
        files.invalidate_cache()  # what it listed before in this process may have grown
        try:
            hits = call(files, "glob", pattern, timeout_s=_LISTING_S)
        except ValueError as error:  # a pattern that is none
            raise UserError(f"pool.shards: {url}: {error}.") from error
        except Exception as error:
            raise plainly(error, url) from error
        return [files.unstrip_protocol(hit) for hit in hits]

    try:
        return patiently(ask, (OSError,), ATTEMPTS)
    except LASTING as error:
        raise UserError(f"pool.shards: {url} cannot be listed: {error}.") from error
    except OSError as error:
        raise StoreGone(f"{url} cannot be listed: {error}") from error


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _wild(url: str) -> set[str]:
    # In a web address "?" begins a query, and brackets are no pattern.
    return set(url) & ({"*"} if _is_http(url) else _WILD)


def _without_query(url: str) -> str:
    return url.partition("?")[0] if _is_http(url) else url


def _fixed_url(pattern: str) -> str:
    """Return the address above the first wildcard, or above a single tar."""
    protocol, _, rest = _without_query(pattern).partition("://")
    fixed = rest.split("/")
    wild = {"{", "*"} if _is_http(pattern) else _PATTERN
    first = next((i for i, part in enumerate(fixed) if set(part) & wild), None)
    if first is not None:
        fixed = fixed[:first]
    elif fixed[-1].endswith(".tar"):
        fixed = fixed[:-1]
    return f"{protocol}://{'/'.join(fixed).rstrip('/')}"


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


def _braces(pattern: str) -> list[str]:
    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError as error:
        raise UserError(f"pool.shards: {pattern!r} has braces that do not match.") from error
