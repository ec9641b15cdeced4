"""Which store a location belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from selffilter.pool.stores.local import LocalStore
from selffilter.pool.stores.pipe import PIPE, PipeStore
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Span, Store

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Stores:
    """The stores of one process."""

    def __init__(self) -> None:
        self._known: dict[str, Store] = {}

    def of(self, location: str) -> Store:
        """Return the store of a path, a URL or a ``pipe:`` command: one of each kind."""
        kind: Callable[[], Store] = LocalStore
        if location.startswith(PIPE):
            kind = PipeStore
        elif is_remote(location):
            kind = RemoteStore
        name = kind.__name__
        if name not in self._known:
            self._known[name] = kind()
        return self._known[name]

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of spans in any stores, in their order; see `Store.read`."""
        found: list[bytes] = [b""] * len(spans)
        groups: dict[int, list[int]] = {}
        stores = [self.of(span.location) for span in spans]
        for place, store in enumerate(stores):
            groups.setdefault(id(store), []).append(place)
        for places in groups.values():
            parts = stores[places[0]].read([spans[place] for place in places])
            for place, part in zip(places, parts, strict=True):
                found[place] = part
        return found


def is_remote(location: str) -> bool:
    """Whether a location is a URL; a path may hold "://" as well, further on."""
    return _URL.match(location) is not None


def is_far(location: str) -> bool:
    """Whether asking for a location takes so long that one should ask ahead."""
    return location.startswith(PIPE) or is_remote(location)
