"""Small files that mean very much: each is refused, by a process with little memory to spare."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

MEGABYTES = 256
"""So much may be mapped beyond what the imports take; each bomb means a multiple of it."""

READ = """
import json, resource, sys
from pathlib import Path

import pyarrow.parquet as pq
import torch

from selffilter.clip.checkpoint import read_weights
from selffilter.config import load_config
from selffilter.errors import UserError
from selffilter.pool.subset import read_subset_file
from selffilter.scoring.embeddings.arrays import describe_npy, describe_npz
from selffilter.scoring.given import GivenScores
from selffilter.tables import read_table

folder, megabytes = Path(sys.argv[1]), int(sys.argv[2])
readers = {
    "given": GivenScores, "subset": read_subset_file, "table": read_table, "config": load_config,
    "npy": lambda path: describe_npy(path).map(), "weights": read_weights,
    "npz": lambda path: describe_npz(path, "f").load(),
}
pq.read_table(folder / "warm.parquet")  # starts its threads
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (megabytes << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for line in sys.stdin.read().splitlines():
    kind, name = line.split()
    try:
        readers[kind](folder / name)
        said = "read"
    except UserError as error:
        said = str(error)
    except BaseException as error:
        said = f"NOT IN WORDS: {error!r}"
    print(json.dumps([name, said]), flush=True)
"""


def constant_rows(path, rows, **columns):
    """Write a Parquet of one row repeated: next to nothing a row."""
    schema = pa.schema({name: value.type for name, value in columns.items()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for begin in range(0, rows, 1 << 20):
            count = min(1 << 20, rows - begin)
            arrays = [pa.repeat(value, count) for value in columns.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def long_texts(path, rows):
    """Write a Parquet of a text of 1 MB in each row."""
    schema = pa.schema([("uid", pa.string()), ("score", pa.float32())])
    texts = pa.array([f"{i}{'a' * (1 << 20)}" for i in range(50)])
    scores = pa.array(np.ones(50, np.float32))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(rows // 50):
            writer.write_table(pa.Table.from_arrays([texts, scores], schema=schema))


def shared_text(path, rows):
    """Write a Parquet of a text of 10 kB that all rows share, and that stands there once."""
    schema = pa.schema([("uid", pa.string()), ("score", pa.float32())])
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), ["a" * 10_000])
    scores = pa.array(np.ones(rows, np.float32))
    pq.write_table(pa.Table.from_arrays([texts.cast(pa.string()), scores], schema=schema), path)


def npy_header(path, shape, dtype, version=1):
    header = {"descr": np.dtype(dtype).descr if "," in dtype else dtype, "shape": shape}
    with path.open("wb") as file:
        if version == 2:
            file.write(b"\x93NUMPY\2\0" + (2**32 - 1).to_bytes(4, "little") + b"{" * 1000)
        else:
            np.lib.format.write_array_header_1_0(file, header | {"fortran_order": False})


BOMBS = {
    "rows-given.parquet": ("given", "17,000,000 rows, in"),
    "rows-subset.parquet": ("subset", "17,000,000 rows, in"),
    "rows-table.parquet": ("table", "17,000,000 rows, in"),
    "texts-given.parquet": ("given", "bytes unpack to 419,"),
    "texts-subset.parquet": ("subset", "bytes unpack to 419,"),
    "shared-given.parquet": ("given", "string that are not 32 hex digits"),
    "shared-subset.parquet": ("subset", "string that are not 32 hex digits"),
    "rows.npy": ("subset", "breaks off"),
    "header.npy": ("subset", "is not a DataComp subset file"),
    "embeddings.npy": ("npy", "breaks off"),
    "embeddings-header.npy": ("npy", "is no .npy of numbers"),
    "packed.npz": ("npz", "bytes that unpack to"),
    "packed.pt": ("weights", "it is packed"),
    "long.safetensors": ("weights", "cannot be read as weights"),
    "aliases.yaml": ("config", "is not a YAML file"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """What a process with little memory says of each bomb."""
    folder = tmp_path_factory.mktemp("bombs")
    pq.write_table(pa.table({"a": [1, 2]}), folder / "warm.parquet")
    uid, one = pa.scalar("0" * 32), pa.scalar(1.0, pa.float32())
    constant_rows(folder / "rows-given.parquet", 17_000_000, uid=uid, score=one)
    for name in ("rows-subset.parquet", "rows-table.parquet"):
        (folder / name).hardlink_to(folder / "rows-given.parquet")
    long_texts(folder / "texts-given.parquet", 400)
    (folder / "texts-subset.parquet").hardlink_to(folder / "texts-given.parquet")
    shared_text(folder / "shared-given.parquet", 60_000)
    (folder / "shared-subset.parquet").hardlink_to(folder / "shared-given.parquet")
    npy_header(folder / "rows.npy", (10**12,), "<u8,<u8")
    npy_header(folder / "header.npy", (), "", version=2)
    npy_header(folder / "embeddings.npy", (10**9, 512), "<f2")
    npy_header(folder / "embeddings-header.npy", (), "", version=2)
    with (
        zipfile.ZipFile(
            folder / "packed.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive,
        archive.open("f.npy", "w") as file,
    ):
        rows = 1 << 18
        header = {"descr": "<f2", "shape": (rows, 512), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(rows >> 10):
            file.write(bytes(1 << 20))
    torch.save({"w": torch.zeros(1 << 20)}, folder / "plain.pt")
    with (
        zipfile.ZipFile(folder / "plain.pt") as plain,
        zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    (folder / "long.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (folder / "aliases.yaml").write_text("\n".join(lines))
    for name in BOMBS:
        assert (folder / name).stat().st_size < 4_000_000, name
    asked = "\n".join(f"{kind} {name}" for name, (kind, _) in BOMBS.items())
    command = [sys.executable, "-c", READ, str(folder), str(MEGABYTES)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=300)
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert len(told) == len(BOMBS), (told, done.returncode, done.stderr[-2000:])
    return told


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_words_and_little_memory(name, verdicts):
    assert BOMBS[name][1] in verdicts[name]


def test_a_table_of_honest_size_is_read_whatever_its_values(tmp_path):
    """Repeated values are no bomb as long as their rows are as many as a shard may have."""
    from selffilter.tables import read_table

    constant_rows(tmp_path / "same.parquet", 2_000_000, a=pa.scalar(1, pa.int8()))
    assert read_table(tmp_path / "same.parquet").num_rows == 2_000_000
