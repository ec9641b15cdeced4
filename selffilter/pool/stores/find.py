"""Which store a location belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selffilter.pool.stores.local import LocalStore
from selffilter.pool.stores.pipe import PIPE, PipeStore
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Span, Store


class Stores:
    """The stores of one process."""

    def __init__(self) -> None:
        self._known: dict[str, Store] = {}

    def of(self, location: str) -> Store:
        """Return the store of a path, a URL or a ``pipe:`` command: one for each protocol."""
        protocol = location.partition("://")[0] if is_remote(location) else ""
        if location.startswith(PIPE):
            protocol = PIPE
        if protocol not in self._known:
            kinds: dict[str, Callable[[], Store]] = {"": LocalStore, PIPE: PipeStore}
            self._known[protocol] = kinds.get(protocol, RemoteStore)()
        return self._known[protocol]

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
    """Whether a location is a URL."""
    return "://" in location and not location.startswith(PIPE)


def is_far(location: str) -> bool:
    """Whether asking for a location takes so long that one should ask ahead."""
    return location.startswith(PIPE) or is_remote(location)
