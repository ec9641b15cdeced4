"""What reads bytes that somebody else wrote: good files of each kind, and the reader.

A reader may refuse a file with the errors that it names, or give something that can be used; any
other error, a crash or a hang is a finding.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

from benchmarks.reliability.mutate import mended_png, mended_tar
from selffilter.clip.checkpoint import read_weights
from selffilter.config import flatten, load_config, shipped_config, to_yaml
from selffilter.errors import UserError
from selffilter.evaluation.samples import SampleReader, read_npy
from selffilter.evaluation.sets import EvaluationSet
from selffilter.pool import index_files, uids
from selffilter.pool.captions import CaptionKey, decode_captions
from selffilter.pool.decoding import decode_image
from selffilter.pool.failures import UnusableSample
from selffilter.pool.field import MAX_CHARS, Field, parse_object
from selffilter.pool.field_shards import FieldShards
from selffilter.pool.index import Pool, build_index
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import read_subset_file, write_subset_file
from selffilter.pool.tar_headers import BrokenTarError
from selffilter.pool.tar_scan import iterate_samples, scan_tar
from selffilter.scoring.embeddings.arrays import describe_npy, describe_npz
from selffilter.scoring.given import GivenScores
from selffilter.tables import SELECTION, read_table, scores_schema, write_table
from selffilter.training.state import TrainState

MAX_PIXELS = 1_000_000
ROWS = 5


@dataclass(frozen=True)
class Target:
    """A reader of files.

    Attributes:
        name: Of the reader.
        suffix: What its files' names end in.
        good: The files that are edited; nothing is wrong with them.
        feed: Reads a file and uses what it holds.
        refusals: The errors by which it may refuse a file.
        mended: Puts right what would end reading early (checksums).
    """

    name: str
    suffix: str
    good: Callable[[], list[bytes]]
    feed: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]
    mended: Callable[[bytes], bytes] = bytes


def outcome(target: Target, path: Path) -> str:
    """Feed a file to a target: "read", or the name of the error by which it was refused.

    Raises:
        Exception: Whatever else comes out: a finding.
    """
    try:
        target.feed(path)
    except target.refusals as error:
        if not str(error):
            raise AssertionError("it was refused without a word") from error
        return type(error).__name__
    return "read"


def _written(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"good{suffix}")
        write(path)
        return path.read_bytes()


def _encoded(mode: str, form: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, form, **options)
    return out.getvalue()


def _tar(form: int, samples: int = ROWS) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for row in range(samples):
            key = f"{'folder/' * (row % 2 * 15)}{'k' * (60 if row == 1 else 3)}-鍵-{row}"
            about = json.dumps({"uid": f"{row:032x}", "alts": ["a", "b"]}).encode()
            for extension, data in (
                ("png", _encoded("RGB", "PNG")), ("txt", b"a caption"), ("json", about),
                ("cls", b"1"), ("npy", _written(lambda p: np.save(p, np.array([0, 1])), ".npy")),
            ):  # fmt: skip
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@lru_cache
def _tars() -> list[bytes]:
    return [_tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def _feed_tar(path: Path) -> None:
    size = path.stat().st_size
    scan = scan_tar(str(path), "source", path.name, "txt,json:alts")
    columns = (scan.keys, scan.uids, scan.image, scan.caption, scan.json)
    assert len({len(column) for column in columns}) == 1
    for offset, length in (*scan.image, *scan.caption, *scan.json):
        assert (offset, length) == (-1, -1) or (length >= 0 and 0 < offset + length <= size)
    index_files.write_scan(scan, path.with_suffix(".arrow"))
    data = path.read_bytes()
    with contextlib.suppress(BrokenTarError):
        assert [key for key, _ in iterate_samples(io.BytesIO(data), None)] == scan.keys


@lru_cache
def _images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (9, 8), colour) for colour in ("red", "blue")]
    several = io.BytesIO()
    frames[0].save(several, "WEBP", save_all=True, append_images=frames[1:])
    return [
        _encoded("RGB", "JPEG", exif=exif), _encoded("L", "JPEG", progressive=True),
        _encoded("CMYK", "JPEG"), _encoded("RGB", "PNG"), _encoded("P", "PNG", transparency=3),
        _encoded("RGBA", "PNG"), _encoded("LA", "PNG"),
        _encoded("1", "PNG"), _encoded("RGB", "WEBP"), _encoded("RGBA", "WEBP", lossless=True),
        several.getvalue(), _encoded("P", "GIF"),
    ]  # fmt: skip


def _feed_image(path: Path) -> None:
    data = path.read_bytes()
    for at_least in (None, 8):
        image = decode_image(data, MAX_PIXELS, at_least=at_least)
        assert image.mode == "RGB" and 0 < image.width * image.height <= MAX_PIXELS


def _captions() -> list[bytes]:
    about = {"alts": ["one", "two", "鍵"], "url": "http://a.example/x", "exif": '{"a": {"b": 1}}'}
    return [json.dumps(about).encode(), json.dumps(about, ensure_ascii=False).encode()]


def _feed_captions(path: Path) -> None:
    data = path.read_bytes()
    for field in ("domain(url)", "exif.a.b", "alts"):
        about = parse_object(data)
        value = None if about is None else Field.parse(field).value(about)
        assert value is None or (value.isprintable() and 0 < len(value) <= MAX_CHARS)
    for key in ("json:alts", "txt:lines,json:alts"):
        captions = decode_captions(CaptionKey.parse(key), data, data)
        assert 0 < len(captions) <= 64 and all(caption.strip() for caption in captions)
        "".join(captions).encode()


@lru_cache
def _configs() -> list[bytes]:
    whole = to_yaml(load_config(None, ["pool.shards=[/data]"])).encode()
    own = (
        b"pool: {shards: [/data]}\nselect: {keep_fraction: 'linear(0.2,0.4)', cuts: []}\nseed: 3\n"
    )
    return [whole, shipped_config("img2dataset").read_bytes(), own]


def _feed_config(path: Path) -> None:
    flatten(load_config(path, ["pool.shards=[/data]"]))


def _subsets() -> dict[str, list[bytes]]:
    pairs = np.arange(2 * ROWS, dtype=np.uint64).reshape(-1, 2)
    subset = subset_of(pairs, np.arange(1, ROWS + 1))
    return {
        suffix: [_written(lambda path: write_subset_file(path, subset), suffix)]
        for suffix in (".npy", ".parquet", ".txt")
    }


def _feed_subset(path: Path) -> None:
    subset = read_subset_file(path)
    int(subset.weights_N.sum())
    uids.to_hex(subset.uids_N2)


class _Index:
    """A good index, of which one file at a time is another."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        home = Path(self._folder.name)
        (home / "pool").mkdir()
        for number, data in enumerate(_tars()):
            (home / "pool" / f"{number}.tar").write_bytes(data)
        self.dir = home / "index"
        self.version = build_index([str(home / "pool")], self.dir, caption_key="txt,json:alts")
        self.files = {
            "version": index_files.version_file(self.dir, self.version),
            "defects": index_files.defects_file(self.dir, self.version),
            "rows": min((self.dir / "shards").iterdir()),
            "latest": self.dir / "versions" / "latest",
        }
        self.good = {name: path.read_bytes() for name, path in self.files.items()}

    def feed(self, name: str, path: Path) -> None:
        # Another file each time: the last one may still be mapped.
        self.files[name].unlink()
        self.files[name].write_bytes(path.read_bytes())
        index_files.open_shard.cache_clear()
        index_files.places_of.cache_clear()
        try:
            pool = Pool.latest(self.dir)
            pool.problems()
            pool.defect_counts()
            for shard in range(pool.shards):
                pool.location(shard), pool.shard_bytes(shard), pool.defects(shard)
                pool.shard_table(shard)["key"].to_pylist()
                for offset_n, size_n in pool.places(shard).values():
                    assert ((offset_n >= -1) & (size_n >= -1)).all()
            pool.uids_of(np.arange(pool.rows))
        finally:
            self.files[name].unlink()
            self.files[name].write_bytes(self.good[name])


@lru_cache
def _index() -> _Index:
    return _Index()


class _Beside:
    """A pool of one shard, with img2dataset's metadata beside it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        home = Path(self._folder.name)
        (home / "pool").mkdir()
        (home / "pool" / "0.tar").write_bytes(_tars()[0])
        index = home / "index"
        self.pool = Pool(index, build_index([str(home / "pool")], index))
        self.path = home / "pool" / "0.parquet"
        keys = self.pool.shard_table(0)["key"]
        labels = pa.array([f"label {row % 2}" for row in range(ROWS)])
        table = pa.table({"key": keys, "label": labels})
        self.good = [_written(lambda path: pq.write_table(table, path), ".parquet")]

    def feed(self, path: Path) -> None:
        self.path.write_bytes(path.read_bytes())
        values = FieldShards(self.pool, Field.parse("label"))
        values.make(0)
        column, _ = values.read(0)
        assert len(column) == ROWS
        values.names(0)


@lru_cache
def _beside() -> _Beside:
    return _Beside()


def _score_table() -> pa.Table:
    columns = {
        "row": pa.array(range(ROWS), pa.int64()),
        "uid": uids.to_arrow(np.arange(2 * ROWS, dtype=np.uint64).reshape(-1, 2)),
        "cosine": pa.array(np.linspace(0, 1, ROWS), pa.float32()),
        "failure": pa.array([0] * ROWS, pa.uint8()),
        "probe": pa.array([False] * ROWS),
        "outside": pa.array([False] * ROWS),
        "scored_round": pa.array([0] * ROWS, pa.int32()),
    }
    return pa.table(columns, schema=scores_schema(["cosine"], facts=()))


def _selection_table() -> pa.Table:
    scores, share = _score_table(), pa.array(["confident"] * ROWS).dictionary_encode()
    columns = {
        "row": scores["row"], "uid": scores["uid"], "weight": pa.array([1] * ROWS, pa.int32()),
        "share": share.cast(SELECTION.field("share").type),
        "round": scores["scored_round"], "score": scores["cosine"], "rank": scores["row"],
    }  # fmt: skip
    return pa.table(columns, schema=SELECTION)


@lru_cache
def _tables() -> list[bytes]:
    return [
        _written(lambda path, t=table: write_table(path, t), ".parquet")
        for table in (_score_table(), _selection_table())
    ]


def _feed_table(path: Path) -> None:
    for column in read_table(path).columns:
        column.to_pylist() if pa.types.is_dictionary(column.type) else column.to_numpy()


@lru_cache
def _given() -> list[bytes]:
    text = [f"{row:032x}" for row in range(ROWS)]
    tables = [
        pa.table({"uid": text, "score": np.linspace(0, 1, ROWS)}),
        pa.table({"uid": _score_table()["uid"], "score": pa.array([1, None, 3, 4, 5])}),
    ]
    return [_written(lambda path, t=table: pq.write_table(t, path), ".parquet") for table in tables]


def _arrays() -> dict[str, list[bytes]]:
    matrix = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float16)
    return {
        ".npy": [_written(lambda path: np.save(path, matrix), ".npy")],
        ".npz": [
            _written(lambda path, w=write: w(path, f=matrix, g=matrix), ".npz")
            for write in (np.savez, np.savez_compressed)
        ],
    }


def _feed_array(path: Path) -> None:
    array = describe_npy(path) if path.suffix == ".npy" else describe_npz(path, "f")
    found = array.map() if array.offset is not None else array.load()
    assert found.shape == array.shape
    np.nansum(found, dtype=np.float64)


@lru_cache
def _weights() -> dict[str, list[bytes]]:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2, dtype=torch.int64)}
    state = TrainState(3, weights, weights, {"state": {}, "param_groups": [{"lr": 0.1}]})
    return {
        ".safetensors": [save(weights)],
        ".pt": [_written(lambda path: torch.save(weights, path), ".pt")],
        ".ckpt": [
            _written(state.save, ".ckpt"),
            _written(lambda path: torch.save(asdict(state), path), ".ckpt"),
        ],
    }


def _feed_weights(path: Path) -> None:
    for value in read_weights(path).values():
        value.double().sum()


def _feed_state(path: Path) -> None:
    state = TrainState.load(path)
    for value in (*state.model.values(), *state.ema.values()):
        value.double().sum()


def _feed_label(path: Path) -> None:
    read_npy(path.read_bytes())


def _feed_samples(path: Path) -> None:
    with path.open("rb") as file:
        samples = [m for _, m in iterate_samples(file, path.stat().st_size)]
    for kind in ("classification", "multilabel", "retrieval"):
        reader = SampleReader(
            path,
            samples,
            kind=kind,
            classes=2,
            group_columns=(0,) if kind == "classification" else (),
            transform=lambda image: torch.zeros(3, 2, 2),
            max_pixels=MAX_PIXELS,
        )
        batch = reader[range(len(samples))]
        assert len(batch.labels) + len(batch.unusable) == len(samples)


_TEXTS = {
    "dataset_type.txt": "classification",
    "classnames.txt": "red fox\nbarn",
    "zeroshot_classification_templates.txt": "a {c}\n{c}",
    "groups.txt": "-\ncountry",
    "test/nshards.txt": "1",
}


def _feed_set(path: Path) -> None:
    """The texts of a set as one file, with its name before each."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test").mkdir()
        (Path(folder) / "test" / "0.tar").write_bytes(_tars()[0])
        for part in path.read_bytes().split(b"\f"):
            name, _, text = part.partition(b"\v")
            if name.decode("utf-8", "replace") in _TEXTS:
                (Path(folder) / name.decode()).write_bytes(text)
        data = EvaluationSet(folder)
        assert data.kind and data.fingerprint
        list(data.shards())


def _set_texts() -> list[bytes]:
    return [b"\f".join(f"{name}\v{text}".encode() for name, text in _TEXTS.items())]


REFUSED = (UserError,)

TARGETS = [
    Target("tar index", ".tar", _tars, _feed_tar, (), mended_tar),
    Target("image decoders", ".img", _images, _feed_image, (UnusableSample,), mended_png),
    Target("captions and json", ".json", _captions, _feed_captions, (UnusableSample,)),
    Target("config", ".yaml", _configs, _feed_config, REFUSED),
    *(
        Target(f"subset {suffix}", suffix, lambda s=suffix: _subsets()[s], _feed_subset, REFUSED)
        for suffix in (".npy", ".parquet", ".txt")
    ),
    *(
        Target(
            f"pool index, {name}",
            ".arrow",
            lambda n=name: [_index().good[n]],
            lambda path, n=name: _index().feed(n, path),
            REFUSED,
        )
        for name in ("version", "defects", "rows", "latest")
    ),
    Target(
        "metadata beside a shard",
        ".parquet",
        lambda: _beside().good,
        lambda path: _beside().feed(path),
        (),
    ),
    Target("scores and selections", ".parquet", _tables, _feed_table, REFUSED),
    Target("given scores", ".parquet", _given, lambda path: GivenScores(path), REFUSED),
    *(
        Target(f"embeddings {suffix}", suffix, lambda s=suffix: _arrays()[s], _feed_array, REFUSED)
        for suffix in (".npy", ".npz")
    ),
    *(
        Target(f"weights {suffix}", suffix, lambda s=suffix: _weights()[s], _feed_weights, REFUSED)
        for suffix in (".safetensors", ".pt")
    ),
    Target("training state", ".ckpt", lambda: _weights()[".ckpt"], _feed_state, REFUSED),
    Target("labels .npy", ".npy", lambda: _arrays()[".npy"], _feed_label, (ValueError,)),
    Target("evaluation samples", ".tar", _tars, _feed_samples, (BrokenTarError,), mended_tar),
    Target("evaluation set's texts", ".txt", _set_texts, _feed_set, REFUSED),
]
BY_NAME = {target.name: target for target in TARGETS}
