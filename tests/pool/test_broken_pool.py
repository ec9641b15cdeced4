"""A pool broken on purpose goes through a whole run, and every row of it is accounted for."""

import io
import json
import struct
import tarfile
import zlib
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from selffilter.config import load_config
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.run import run
from selffilter.team import Team
from selffilter.tracking.console import Screen

CAPTION_KEY = "txt,json:alts"
UID = "0123456789abcdef" * 2
GOOD_ROWS = 20
MAX_BYTES = 100_000


def png_of_100_megapixels():
    """Return a few hundred bytes that are a PNG of 10,001 x 10,001 pixels, all of them there."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    side = 10_001
    row = b"\0" + bytes(-(-side // 8))
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    about = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", about) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(mode, form, **options):
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 4), dtype=np.uint8)
    Image.fromarray(pixels[:, :, :3]).convert(mode).save(out, form, **options)
    return out.getvalue()


def samples_of_first_shard(picture):
    """Key, members and what becomes of each: None if it can be scored."""
    jpeg = encoded("RGB", "JPEG")
    png, text = picture(1), b"a caption"
    two = json.dumps({"alts": ["one", "two"]}).encode()
    uid = json.dumps({"uid": UID}).encode()
    return [
        ("no-caption", {"png": png}, Failure.missing_caption),
        ("no-image", {"txt": text}, Failure.missing_image),
        ("neither", {"cls": b"3"}, Failure.missing_image),
        ("huge", {"png": png_of_100_megapixels(), "txt": text}, Failure.image_too_large),
        ("heavy", {"jpg": jpeg + bytes(MAX_BYTES), "txt": text}, Failure.image_too_large),
        ("cut-off", {"jpg": jpeg[: len(jpeg) // 2], "txt": text}, Failure.image_truncated),
        ("empty-image", {"jpg": b"", "txt": text}, Failure.image_unreadable),
        ("html", {"jpg": b"<html>404</html>", "txt": text}, Failure.image_unreadable),
        ("named-jpg-is-png", {"jpg": png, "txt": text}, None),
        ("cmyk", {"jpg": encoded("CMYK", "JPEG"), "txt": text}, None),
        ("palette", {"png": encoded("P", "PNG"), "txt": text}, None),
        ("gif", {"gif": encoded("P", "GIF"), "txt": text}, None),
        ("blank-caption", {"png": png, "txt": b" \n"}, Failure.caption_empty),
        ("latin-1", {"png": png, "txt": "Käse".encode("latin-1")}, Failure.caption_unreadable),
        ("long-caption", {"png": png, "txt": b"word " * 100_000}, None),
        ("book", {"png": png, "txt": b"word " * 1_000_000}, Failure.caption_unreadable),
        ("json-garbage", {"png": png, "txt": text, "json": b"\xff{["}, None),
        ("json-garbage-alone", {"png": png, "json": b"\xff{["}, Failure.caption_unreadable),
        ("json-deep", {"png": png, "json": b"[" * 100_000}, Failure.caption_unreadable),
        ("json-no-object", {"png": png, "txt": text, "json": b'"text"'}, None),
        ("json-no-such-field", {"png": png, "json": b"{}"}, Failure.caption_unreadable),
        ("two-captions", {"png": png, "json": two}, None),
        ("three-captions", {"png": png, "txt": text, "json": two}, None),
        ("broken-text-good-json", {"png": png, "txt": b"\xff", "json": two}, None),
        ("uid-first", {"png": png, "txt": text, "json": uid}, None),
        ("uid-again", {"png": png, "txt": text, "json": uid}, Failure.duplicate_uid),
        ("uid-nonsense", {"png": png, "txt": text, "json": b'{"uid": ["../x", 1e999]}'}, None),
        ("a.b", {"jpg": png, "txt": text}, Failure.missing_image),  # key "a", extension "b.jpg"
        ("folder/with a blank/干酪 🧀", {"png": png, "txt": text}, None),
        ("../../escaped", {"png": png, "txt": text}, None),
        ("/absolute", {"png": png, "txt": text}, None),
        ("C:\\windows\\system32", {"png": png, "txt": text}, None),
        ("; rm -rf $HOME", {"png": png, "txt": text}, None),
        ("k" * 90, {"PNG": png, "TXT": text}, None),
        ("tw\udcffisted", {"png": png, "txt": text}, None),  # a name that is not UTF-8
    ]


def add(tar, name, data=b"", **about):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for what, value in about.items():
        setattr(info, what, value)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def broken(tmp_path, picture):
    """Two sources with shards of the same names; where each row of them is to end."""
    pool = tmp_path / "pools"
    for source in ("first", "second"):
        (pool / source).mkdir(parents=True)
    expected = []
    with tarfile.open(pool / "first" / "00000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for key, members, failure in samples_of_first_shard(picture):
            expected.append(failure)
            for extension, data in members.items():
                add(tar, f"{key}.{extension}", data)
        # None of these is a regular file: there is no row of them.
        add(tar, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "link.txt", type=tarfile.LNKTYPE, linkname="../../secret.txt")
        add(tar, "device.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
        add(tar, "pipe.png", type=tarfile.FIFOTYPE)
        add(tar, "folder.png/", type=tarfile.DIRTYPE)
    (pool / "first" / "00001.tar").write_bytes(b"")
    (pool / "first" / "00002.tar").write_bytes(b"this is not a tar, whatever its name " * 50)
    # The same names, keys, pictures and captions as in the other source: other rows, other uids.
    with tarfile.open(pool / "second" / "00000.tar", "w") as tar:
        for row in range(GOOD_ROWS):
            expected.append(None)
            add(tar, f"{row:05d}.png", picture(row))
            add(tar, f"{row:05d}.txt", f"caption {row}".encode())
    with tarfile.open(pool / "second" / "00001.tar", "w") as tar:
        for row in range(GOOD_ROWS):
            add(tar, f"{row:05d}.png", picture(row))
            add(tar, f"{row:05d}.txt", f"caption {row}".encode())
    whole = (pool / "second" / "00001.tar").read_bytes()
    # Inside the picture of the sixth row.
    with tarfile.open(pool / "second" / "00001.tar") as tar:
        cut = tar.getmember("00005.png").offset_data + 10
    (pool / "second" / "00001.tar").write_bytes(whole[:cut])
    expected += [None] * 5
    return pool, expected


def files_below(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_row_of_a_broken_pool_is_scored_or_failed_with_its_reason(
    broken, tmp_path, monkeypatch, tiny_vit
):
    pool, expected = broken
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "test-broken.json").write_text(json.dumps(tiny_vit))
    before = files_below(tmp_path)
    config = load_config(
        None,
        [
            "name=broken", f"runs_dir={tmp_path / 'runs'}",
            f"pool.shards=[{pool / 'first'},{pool / 'second'}]",
            f"pool.caption_key='{CAPTION_KEY}'", f"model.name={tmp_path / 'test-broken.json'}",
            f"pool.max_image_bytes={MAX_BYTES}", "rounds.samples_seen=96",
            "rounds.count=2", "rounds.bootstrap_fraction=0.5",
            "train.global_batch_size=16", "train.warmup_steps=2", "score.batch_size=8",
            "score.bank_size=16", "select.probe_fraction=0.2", "select.keep_fraction=0.5",
            "select.diverse_fraction=0.2", "track.wandb=disabled", "hardware.workers=0",
            "hardware.accelerator=cpu",
        ],
    )  # fmt: skip
    store = run(config, Team(torch.device("cpu")), Screen(quiet=True))

    reasons = Counter(failure.name for failure in expected if failure is not None)
    assert len(reasons) == 8  # all that there are
    for round_ in range(2):
        account = store.summary(round_, "select")["account"]
        indexed = account.pop("indexed")
        assert indexed == len(expected) == sum(account.values())
        assert account.pop("base_not_scored") == account.pop("outside") == 0
        assert account.pop("probe") > 0
        assert account.pop("base_scored") > 0
        assert account == reasons
        tables = [pq.read_table(p) for p in sorted(store.stage(round_, "score").glob("*.parquet"))]
        failures = [f for table in tables for f in table["failure"].to_pylist()]
        assert failures == [failure or 0 for failure in expected]
        scores = np.concatenate([table["neg_clip_loss"].to_numpy() for table in tables])
        assert (np.isfinite(scores) == [failure is None for failure in expected]).all()

    after = files_below(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("runs/") for name in set(after) - set(before))
    assert not (tmp_path / "runs" / "broken" / "escaped.png").exists()


def test_the_index_says_which_shards_are_broken_and_how(broken, tmp_path):
    pool, expected = broken
    specs = [str(pool / "first"), str(pool / "second")]
    index = Pool(tmp_path / "index", build_index(specs, tmp_path / "index", caption_key="txt"))
    assert index.rows == len(expected)
    problems = dict(line.split(": ", 1) for line in index.problems())
    assert set(problems) == {"first/00001.tar", "first/00002.tar", "second/00001.tar"}
    assert "empty" in problems["first/00001.tar"]
    assert "no member and no end at byte 0" in problems["first/00002.tar"]
    assert "00005.png" in problems["second/00001.tar"]
    assert "(5 samples before it)" in problems["second/00001.tar"]


def test_rows_of_two_sources_with_the_same_names_are_different_rows(broken, tmp_path):
    pool, expected = broken
    specs = [str(pool / "first"), str(pool / "second")]
    index = Pool(tmp_path / "index", build_index(specs, tmp_path / "index", caption_key="txt"))
    uids = {tuple(uid) for uid in index.uids_of(np.arange(index.rows)).tolist()}
    assert len(uids) == len(expected) - 1  # one uid is stated twice, on purpose
