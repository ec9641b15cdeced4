"""A small pool, and reading back what W&B has kept offline.

wandb 0.31 has no reader for Python any more. Its files are LevelDB's log format (7 bytes of
header; blocks of 32 KiB; records of checksum, length and type) around protobuf messages, whose
classes it does have.
"""

import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest
import wandb
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 1 << 15, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path):
    """Return all protobuf records of a ``.wandb`` file; their checksums must be right."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, found, parts = HEADER, [], b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        body = data[at + HEADER : at + HEADER + length]
        assert checksum == zlib.crc32(bytes([kind]) + body), f"at byte {at}"
        at += HEADER + length
        parts = body if kind in (FULL, FIRST) else parts + body
        if kind in (FULL, LAST):
            found.append(Record.FromString(parts))
    return found


class Offline:
    """All that the processes of a run have kept, in their order.

    Attributes:
        folders: One a process.
        history: What was logged, one dict a step.
        axes: Metric (or pattern) → what it is drawn over.
        config: Of the first process.
        artifacts: The records of artifacts that were logged by the run itself.
        alerts: Titles.
        run: The record of the first process's run.
    """

    def __init__(self, run_dir):
        wandb.teardown()  # a run that is finished may still be in the service's memory (0.31)
        self.folders = sorted((run_dir / "wandb").glob("offline-run-*"))
        self.history, self.axes, self.artifacts, self.alerts, self.runs = [], {}, [], [], []
        self.config = {}
        for folder in self.folders:
            (path,) = folder.glob("*.wandb")
            for record in read_records(path):
                self._take(record)
        self.run = self.runs[0]

    def _take(self, record):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
            self.history.append({key: json.loads(value) for key, value in items.items()})
        elif kind == "metric":
            self.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "run":
            self.runs.append(record.run)
            for update in record.run.config.update:
                key = update.key or "/".join(update.nested_key)
                self.config.setdefault(key, json.loads(update.value_json))
        elif kind == "artifact" and not record.artifact.name.startswith("run-"):
            self.artifacts.append(record.artifact)
        elif kind == "alert":
            self.alerts.append(record.alert.title)

    def values(self, key):
        """Return all values of a metric with the axes: (round, samples_seen, value)."""
        return [(row["round"], row["samples_seen"], row[key]) for row in self.history if key in row]


@pytest.fixture(scope="session")
def offline():
    """Return what reads a run directory's W&B files back."""
    return Offline


EVIL = "a\x1b[2J\x1b]0;owned\x07 fox\r\n\u202e" + "and a tail " * 40


def _write_pool(folder, rows):
    """Write two shards of pictures of 240 x 120; every seventh caption is hostile."""
    folder.mkdir()
    for shard, part in enumerate(np.array_split(np.arange(rows), 2)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in part.tolist():
                out = io.BytesIO()
                colour = tuple(np.random.default_rng(row).integers(0, 256, 3).tolist())
                Image.new("RGB", (240, 120), colour).save(out, "PNG")
                caption = EVIL if row % 7 == 0 else f"caption {row}"
                for name, data in (("png", out.getvalue()), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{row:06d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="session")
def write_pool():
    """Return what writes a pool of so many rows into a folder."""
    return _write_pool
