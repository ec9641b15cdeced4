"""Packs: the rows of a shard that were fetched ahead, in a bounded folder on this node.

A pack is an uncompressed Arrow file, ``{fingerprint of the shard}.arrow``: ``place`` (the sample's
number in the shard, ascending) and one binary column a member. What a row's bytes are does not
depend on who selected it, so a pack serves any run and any round that finds its rows in it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.store import write_atomically

_OPEN = 1024
_ABANDONED_S = 3600


class Pack:
    """The rows of one shard that lie here.

    Args:
        table: As `Packs.write` made it, memory-mapped.
    """

    def __init__(self, table: pa.Table) -> None:
        self._place_n: NDArray[np.int64] = table["place"].to_numpy()
        self._members = {
            name: table[name].combine_chunks() for name in table.column_names if name != "place"
        }

    def holds(self, members: Iterable[str]) -> bool:
        """Whether the pack was made with these members."""
        return set(members) <= set(self._members)

    def places(self, local_M: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each sample of the shard stands in the pack, or -1, (M,) int64."""
        place_M = np.searchsorted(self._place_n, local_M)
        inside = place_M < len(self._place_n)
        hit = np.zeros(len(local_M), dtype=bool)
        hit[inside] = self._place_n[place_M[inside]] == local_M[inside]
        return np.where(hit, place_M, -1)

    def read(self, place: int, member: str) -> bytes | None:
        """Return a member's bytes; None if the sample has no such member."""
        found: bytes | None = self._members[member][place].as_py()
        return found


class Packs:
    """The packs of this node.

    Args:
        folder: Where they lie.
        max_bytes: Their bound; see `make_room`.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._open: OrderedDict[str, tuple[tuple[int, int], Pack]] = OrderedDict()

    def open(self, fingerprint: str) -> Pack | None:
        """Return the pack of a shard as it is now; None if there is none (or it is broken)."""
        path = self._path(fingerprint)
        try:
            stat = path.stat()
        except OSError:
            return None
        identity = (stat.st_ino, stat.st_mtime_ns)
        known = self._open.get(fingerprint)
        if known is None or known[0] != identity:
            try:
                with pa.memory_map(str(path)) as source:
                    table = pa.ipc.open_file(source).read_all()
                if (table.schema.metadata or {}).get(b"boot") != _boot().encode():
                    return None
                pack = Pack(table)
            except (OSError, pa.ArrowException, KeyError):
                return None
            known = self._open[fingerprint] = (identity, pack)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(fingerprint)
        return known[1]

    def write(
        self,
        fingerprint: str,
        place_n: NDArray[np.int64],
        members: Sequence[str],
        rows: Sequence[tuple[bytes | None, ...]],
    ) -> int:
        """Replace the pack of a shard; readers go on with the old one until they open the new one.

        Args:
            fingerprint: The shard's.
            place_n: Numbers of its samples, ascending.
            members: Names of the columns.
            rows: The members of each sample.

        Returns:
            Bytes written.
        """
        columns = list(zip(*rows, strict=True)) or [()] * len(members)
        table = pa.Table.from_arrays(
            [pa.array(place_n), *(pa.array(column, pa.large_binary()) for column in columns)],
            names=["place", *members],
        ).replace_schema_metadata({"boot": _boot()})

        def write(file: object) -> None:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(fingerprint), write, durable=False)
        return table.nbytes

    def used(self, fingerprint: str) -> None:
        """Note that a pack is wanted again, so that it goes later."""
        with contextlib.suppress(OSError):
            os.utime(self._path(fingerprint))

    def make_room(self, needed: int, keep: set[str]) -> bool:
        """Delete packs, those first that were not wanted for longest.

        Args:
            needed: Bytes that are to be written.
            keep: Fingerprints of packs that are still wanted.

        Returns:
            Whether there is room now.
        """
        found = []
        for path in [*self.folder.glob("*.arrow"), *self.folder.glob(".*.arrow.*.tmp")]:
            with contextlib.suppress(OSError):  # another rank makes room as well
                stat = path.stat()
                if path.suffix == ".arrow":
                    found.append((stat.st_mtime_ns, stat.st_size, path))
                elif time.time() - stat.st_mtime > _ABANDONED_S:  # its writer was killed
                    path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in found) + needed
        for _, size, path in sorted(found):
            if total <= self.max_bytes:
                return True
            if path.stem not in keep:
                path.unlink(missing_ok=True)
                total -= size
        return total <= self.max_bytes

    def _path(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.arrow"

    def __getstate__(self) -> dict[str, object]:
        """Leave open packs behind when another process takes a copy."""
        return {**self.__dict__, "_open": OrderedDict()}


def _boot() -> str:
    """Return what tells this start of the machine from others.

    A pack is not synced to the disk, which would cost more than fetching it; so one that was
    written before the machine went down is not trusted.
    """
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def packs_at(folder: str | None, gigabytes: float) -> Packs:
    """Return the packs in a folder, made if need be.

    Args:
        folder: The folder; None: one of this user's own below the system's temporary folder.
        gigabytes: Their bound.

    Raises:
        UserError: If somebody else could write there: what lies there is taken for the pool.
    """
    path = Path(folder or Path(tempfile.gettempdir()) / f"selffilter-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    stat = path.stat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        raise UserError(
            f"the cache folder {path} can be written by others, who could put anything in a pool's "
            "place: set pool.cache_dir to a folder of your own (chmod 700)."
        )
    return Packs(path, int(gigabytes * 1e9))
