"""A selection written as shards of its own."""

import io
import json
import tarfile
from collections import Counter
from itertools import pairwise

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from selffilter.errors import StoreGone, UserError
from selffilter.interrupt import Stopped, StopRequest
from selffilter.pool import uids
from selffilter.pool.index import Pool, build_index
from selffilter.pool.materialise.report import describe
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.materialise.write import materialise
from selffilter.pool.subset import read_subset_file
from selffilter.store import read_json

ROWS = 23
SMALL = ShardSettings(samples_per_shard=5)


@pytest.fixture
def source(tmp_path, make_tar, picture):
    """Return a pool of 23 rows in 3 shards, every third with a uid of its own in the json."""
    for shard, rows in enumerate((range(9), range(9, 20), range(20, ROWS))):
        samples = []
        for row in rows:
            about = {"url": f"u{row}", "key": f"{row:04d}", "caption": f"caption {row}"}
            if row % 3 == 0:
                about["uid"] = f"{row:032x}"
            samples.append(
                (
                    f"{row:04d}",
                    {
                        "png": picture(row, size=(40, 30)),
                        "txt": f"caption {row}".encode(),
                        "json": json.dumps(about).encode(),
                    },
                )
            )
        make_tar(tmp_path / "source" / f"{shard:05d}.tar", samples)
    return open_pool(tmp_path, "source")


def open_pool(tmp_path, name, caption_key="txt"):
    index_dir = tmp_path / f"index-{name}"
    version = build_index([str(tmp_path / name)], index_dir, caption_key=caption_key)
    return Pool(index_dir, version, caption_key)


def ones(rows):
    return np.ones(len(rows), np.int64)


def members_of(folder):
    """Return ``{key: {extension: bytes}}`` of all tars of a folder."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return found


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "lease.json"}


def test_what_is_written_indexed_again_has_the_same_uids_images_and_captions(source, tmp_path):
    rows = np.array([0, 1, 3, 8, 9, 11, 12, 19, 20, 21, 22])
    report = materialise(source, rows, ones(rows), tmp_path / "out", SMALL)
    assert (report["samples"], report["shards"], report["left_out"]) == (11, 3, {})
    pool = open_pool(tmp_path, "out")
    assert pool.rows == len(rows) and not pool.defect_counts()
    texts = uids.to_hex(source.uids_of(rows))
    assert sorted(uids.to_hex(pool.uids_of(np.arange(pool.rows)))) == sorted(texts)
    original = members_of(tmp_path / "source")
    for key, members in members_of(tmp_path / "out").items():
        about = json.loads(members["json"])
        row = int(about["url"][1:])
        of_source = original[f"{row:04d}"]
        assert members["png"] == of_source["png"] and members["txt"] == of_source["txt"]
        assert about == json.loads(of_source["json"]) | {
            "key": key,
            "uid": texts[rows.tolist().index(row)],
            "weight": 1,
        }


def test_the_files_are_img2datasets(source, tmp_path):
    rows = np.arange(ROWS)
    materialise(source, rows, ones(rows), tmp_path / "out", SMALL)
    names = [f"0000{i}{end}" for i in range(5) for end in (".parquet", ".tar", "_stats.json")]
    more = ["materialised.json", "subset.npy"]
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == sorted(names + more)
    table = pq.read_table(tmp_path / "out" / "00003.parquet").to_pylist()
    keys = [key for key in members_of(tmp_path / "out") if key.startswith("00003")]
    assert [line["key"] for line in table] == keys == [f"00003{i}" for i in range(len(keys))]
    for line in table:
        row = int(line["caption"].split()[1])
        assert line["status"] == "success" and line["error_message"] is None
        assert (line["width"], line["height"], line["original_width"]) == (40, 30, 40)
        assert (line["source"], line["source_key"]) == ("source", f"{row:04d}")
        assert line["source_shard"] == f"0000{(row > 8) + (row > 19)}.tar"
        assert (line["weight"], line["copy"]) == (1, 0)
    stats = read_json(tmp_path / "out" / "00003_stats.json")
    size = (tmp_path / "out" / "00003.tar").stat().st_size
    expected = {"count": len(keys), "successes": len(keys), "failures": {}, "json_lost": 0}
    assert stats == expected | {"bytes": size}


def test_webdataset_reads_it(source, tmp_path):
    rows = np.arange(ROWS)
    materialise(source, rows, ones(rows), tmp_path / "out", SMALL)
    shards = [str(p) for p in sorted((tmp_path / "out").glob("*.tar"))]
    read = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert sorted(sample["txt"] for sample in read) == sorted(f"caption {i}" for i in range(ROWS))
    for sample in read:
        assert sample["__key__"] == sample["json"]["key"]
        assert sample["png"].size == (40, 30)
    # Shuffled: what stood together in the source does not here.
    numbers = [int(sample["txt"].split()[1]) for sample in read]
    assert sum(abs(a - b) == 1 for a, b in pairwise(numbers)) < 8


def test_a_row_that_stands_several_times_is_written_once_and_its_weight_said(source, tmp_path):
    rows, weights = np.array([2, 5, 7]), np.array([1, 4, 2])
    materialise(source, rows, weights, tmp_path / "out", SMALL)
    found = members_of(tmp_path / "out")
    said = {m["txt"].decode(): json.loads(m["json"])["weight"] for m in found.values()}
    assert said == {"caption 2": 1, "caption 5": 4, "caption 7": 2}
    # The weights as a run takes them.
    subset = read_subset_file(tmp_path / "out" / "subset.npy")
    texts = uids.to_hex(source.uids_of(rows))
    found = dict(zip(uids.to_hex(subset.uids_N2), subset.weights_N.tolist(), strict=True))
    assert found == dict(zip(texts, [1, 4, 2], strict=True))
    assert not open_pool(tmp_path, "out").defect_counts()


def test_repeated_rows_have_keys_of_their_own_and_stand_in_different_shards(source, tmp_path):
    rows, weights = np.arange(8), np.array([3, 1, 1, 1, 1, 1, 1, 1])
    settings = ShardSettings(samples_per_shard=3, repeat=True)
    report = materialise(source, rows, weights, tmp_path / "out", settings)
    assert (report["samples"], report["shards"]) == (10, 4)
    found = members_of(tmp_path / "out")
    assert len(found) == 10
    assert Counter(m["txt"] for m in found.values())[b"caption 0"] == 3
    heavy = [key for key, m in found.items() if m["txt"] == b"caption 0"]
    assert len({key[:5] for key in heavy}) == 3
    assert all(json.loads(m["json"])["weight"] == 1 for m in found.values())
    tables = [pq.read_table(p) for p in sorted((tmp_path / "out").glob("*.parquet"))]
    lines = [line for table in tables for line in table.to_pylist()]
    assert sorted(line["copy"] for line in lines if line["caption"] == "caption 0") == [0, 1, 2]
    assert not (tmp_path / "out" / "subset.npy").exists()  # it would count the copies again
    # For our own index all copies are one sample.
    said = describe(report, tmp_path / "out")
    assert "10 samples in 4 shards" in said and "selffilter meets each uid once" in said
    assert "selffilter run" not in said
    assert open_pool(tmp_path, "out").defect_counts() == {"duplicate_uid": 2}


def test_bytes_do_not_depend_on_workers_or_on_how_much_may_be_held(source, tmp_path):
    rows = np.arange(ROWS)
    settings = ShardSettings(samples_per_shard=4, resize=16, format="jpg")
    materialise(source, rows, ones(rows), tmp_path / "a", settings)
    for name, kwargs in (
        ("b", {"memory_bytes": 1}),
        ("c", {"memory_bytes": 12_000, "request_bytes": 0}),
        ("d", {"workers": 2}),
    ):
        materialise(source, rows, ones(rows), tmp_path / name, settings, **kwargs)
        assert bytes_of(tmp_path / name) == bytes_of(tmp_path / "a"), name


def test_no_more_is_held_than_may_be(source, tmp_path, monkeypatch):
    from selffilter.pool.row_reader import RowReader

    sweeps = []

    def read(self, rows_N, members):
        assert (np.diff(rows_N) > 0).all()  # as they stand in the source
        sweeps.append(rows_N)
        return original(self, rows_N, members)

    original = RowReader.read
    monkeypatch.setattr(RowReader, "read", read)
    rows = np.arange(ROWS)
    held = 3 * (4096 + 1024 + 200)
    materialise(source, rows, ones(rows), tmp_path / "a", SMALL, memory_bytes=held)
    assert all(len(some) <= 3 for some in sweeps) and sum(map(len, sweeps)) == ROWS
    sweeps.clear()
    materialise(source, rows, ones(rows), tmp_path / "b", SMALL)
    assert len(sweeps) == 1


def test_images_shrink_and_failures_are_counted_by_reason_and_left_out(tmp_path, make_tar, picture):
    good = {"txt": b"a caption", "json": b"{}"}
    wide = picture(size=(500, 8), form="JPEG")
    samples = [
        ("a", good | {"png": picture(size=(40, 30))}),
        ("b", good | {"jpg": picture(size=(64, 64), form="JPEG")[:-300]}),
        ("c", good | {"jpg": b"no image"}),
        ("d", good | {"png": picture(size=(400, 400))}),
        ("e", good | {"png": picture(size=(30, 40)), "txt": b"\xff"}),
        ("f", good | {"jpg": wide}),
        ("g", good | {"png": picture(), "txt": b" \n"}),
    ]
    make_tar(tmp_path / "source" / "0.tar", samples)
    pool = open_pool(tmp_path, "source")
    settings = ShardSettings(resize=15, max_image_pixels=50_000, max_image_bytes=400_000)
    rows = np.arange(pool.rows)
    report = materialise(pool, rows, ones(rows), tmp_path / "out", settings)
    assert report["left_out"] == {
        "caption_empty": 1,
        "caption_unreadable": 1,
        "image_too_large": 1,
        "image_truncated": 1,
        "image_unreadable": 1,
    }
    table = {
        line["source_key"]: line
        for line in pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    }
    assert len(table) == 7 and table["b"]["status"] == "failed"
    assert table["b"]["error_message"] == "image_truncated" and table["b"]["width"] is None
    found = members_of(tmp_path / "out")
    assert set(found) == {table["a"]["key"], table["f"]["key"]}
    shrunk = found[table["a"]["key"]]
    assert Image.open(io.BytesIO(shrunk["png"])).size == (20, 15)
    about = json.loads(shrunk["json"])
    assert (about["width"], about["height"]) == (20, 15)
    assert found[table["f"]["key"]]["jpg"] == wide  # small enough already
    assert len(read_subset_file(tmp_path / "out" / "subset.npy")) == 2


def test_a_file_that_is_too_large_is_not_read(tmp_path, make_tar, picture):
    big = picture(size=(80, 80))
    make_tar(tmp_path / "source" / "0.tar", [("a", {"png": big, "txt": b"x"})])
    pool = open_pool(tmp_path, "source")
    settings = ShardSettings(max_image_bytes=len(big) - 1)
    report = materialise(pool, np.array([0]), ones([0]), tmp_path / "out", settings)
    assert report["left_out"] == {"image_too_large": 1} and report["samples"] == 0


@pytest.mark.parametrize(
    ("caption_key", "members", "expected"),
    [
        ("txt", {"txt": b" two words "}, {"txt": b" two words "}),
        ("txt:lines", {"txt": b"one\ntwo\n"}, {"txt": b"one\ntwo\n"}),
        ("json:alt", {"json": b'{"alt": ["one", "two"]}'}, {"txt": b"one"}),
        ("cap", {"cap": b"one"}, {"cap": b"one", "txt": b"one"}),
        # A caption that the key would find twice is not written a second time.
        ("txt,json:alt", {"json": b'{"alt": "one"}'}, {}),
    ],
)
def test_captions_stay_where_the_same_caption_key_finds_them(
    tmp_path, make_tar, picture, caption_key, members, expected
):
    make_tar(tmp_path / "source" / "0.tar", [("a", {"png": picture(), **members})])
    pool = open_pool(tmp_path, "source", caption_key)
    materialise(pool, np.array([0]), ones([0]), tmp_path / "out", SMALL)
    ((key, found),) = members_of(tmp_path / "out").items()
    texts = {name: data for name, data in found.items() if name not in ("png", "json")}
    assert texts == expected
    stated = {"uid": uids.to_hex(pool.uids_of(np.array([0])))[0], "key": key, "weight": 1}
    assert json.loads(found["json"]) == json.loads(members.get("json", b"{}")) | stated
    again = open_pool(tmp_path, "out", caption_key)
    assert not again.defect_counts()
    np.testing.assert_array_equal(again.shard_uids(0), pool.shard_uids(0))


@pytest.mark.parametrize(
    ("about", "lost"),
    [
        (b"{garbage", 1),
        (b"[1]", 1),
        (b"[" * 100_000, 1),
        (json.dumps({"x": "y" * 1_000_000}).encode(), 0),
        (json.dumps({"x": "y" * ((1 << 20) - 10)}).encode(), 1),  # no room for the uid
        (json.dumps({"x": "y" * (1 << 20)}).encode(), 1),
        ('{"x": "\u4e2d\u6587", "half": "\\ud800"}'.encode(), 0),
        (None, 0),
    ],
)
def test_the_uid_outlives_any_json(tmp_path, make_tar, picture, about, lost):
    members = {"png": picture(), "txt": b"x"} | ({"json": about} if about else {})
    make_tar(tmp_path / "source" / "0.tar", [("a", members)])
    pool = open_pool(tmp_path, "source")
    report = materialise(pool, np.array([0]), ones([0]), tmp_path / "out", SMALL)
    assert report["json_lost"] == lost and report["samples"] == 1
    again = open_pool(tmp_path, "out")
    np.testing.assert_array_equal(again.shard_uids(0), pool.shard_uids(0))


def test_no_name_of_the_source_becomes_a_name_of_ours(tmp_path, make_tar, picture):
    members = {"png": picture(), "txt": b"x"}
    names = ["../../evil", "/abs/olute", "ünï cødé", "a" * 90]
    make_tar(tmp_path / "source" / "0.tar", [(name, members) for name in names])
    pool = open_pool(tmp_path, "source")
    rows = np.arange(pool.rows)
    materialise(pool, rows, ones(rows), tmp_path / "out", SMALL)
    assert len(rows) == 4
    assert set(members_of(tmp_path / "out")) == {f"00000{i}" for i in range(4)}


def test_a_call_that_was_stopped_goes_on_and_finished_shards_stay(source, tmp_path):
    rows, out = np.arange(ROWS), tmp_path / "out"
    materialise(source, rows, ones(rows), tmp_path / "whole", SMALL)

    class StopAfter(StopRequest):
        def check(self):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls > 14:
                raise Stopped

    with pytest.raises(Stopped):
        materialise(source, rows, ones(rows), out, SMALL, stop=StopAfter())
    done = sorted(p.name for p in out.glob("*_stats.json"))
    assert done == ["00000_stats.json", "00001_stats.json", "00002_stats.json"]
    assert sorted(p.name for p in out.glob("*.tar")) == [f"0000{i}.tar" for i in range(3)]
    counts = sum(read_json(out / name)["count"] for name in done)
    assert not list(out.rglob(".*.tmp")) and not (out / "materialised.json").exists()
    before = (out / "00000.tar").stat().st_mtime_ns
    (out / ".00004.tar.1.x.tmp").write_bytes(b"of a call that was killed")
    (out / "00003.tar").write_bytes(b"a tar without its stats is not finished")
    shown = []
    materialise(
        source,
        rows,
        ones(rows),
        out,
        SMALL,
        bar=lambda total, done: shown.append((total, done)) or Nothing(),
    )
    assert shown == [(ROWS, counts)]
    assert (out / "00000.tar").stat().st_mtime_ns == before
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, count, note=""):
        pass


def test_what_is_complete_is_found_so(source, tmp_path):
    rows, out = np.arange(ROWS), tmp_path / "out"
    first = materialise(source, rows, ones(rows), out, SMALL)
    before = bytes_of(out)
    assert materialise(source, rows, ones(rows), out, SMALL, workers=2) == first
    assert bytes_of(out) == before
    assert f"selffilter run CONFIG pool.shards='[{out}]'" in describe(first, out)


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        (np.arange(4), SMALL, "from another selection"),
        (np.arange(5), ShardSettings(samples_per_shard=6), "with samples_per_shard=5, not 6"),
        (np.arange(5), ShardSettings(samples_per_shard=5, resize=8), "with resize=None, not 8"),
    ],
)
@pytest.mark.parametrize("is_complete", [True, False])
def test_another_wish_in_the_same_place_is_refused(
    source, tmp_path, rows, settings, says, is_complete
):
    out = tmp_path / "out"
    materialise(source, np.arange(5), ones(np.arange(5)), out, SMALL)
    if not is_complete:
        asked = read_json(out / "materialised.json")["settings"]
        (out / "materialised.json").unlink()
        (out / ".work").mkdir()
        (out / ".work" / "begun.json").write_text(json.dumps({"settings": asked}))
    with pytest.raises(UserError, match=says):
        materialise(source, rows, ones(rows), out, settings)


def test_a_folder_of_somebody_else_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="choose another place"):
        materialise(source, np.arange(5), ones(np.arange(5)), tmp_path / "out", SMALL)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_nothing_is_begun_where_there_is_no_room(source, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="there is room for"):
        materialise(source, np.arange(5), ones(np.arange(5)), tmp_path / "out", SMALL)
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_stays_away_stops_it_and_later_it_goes_on(
    source, tmp_path, monkeypatch, workers
):
    monkeypatch.setattr("selffilter.patience.FIRST_PAUSE_S", 0)
    rows, out = np.arange(ROWS), tmp_path / "out"
    shard = tmp_path / "source" / "00001.tar"
    shard.rename(tmp_path / "away")
    with pytest.raises(StoreGone, match=r"00001\.tar"):
        materialise(source, rows, ones(rows), out, SMALL, workers=workers)
    (tmp_path / "away").rename(shard)
    report = materialise(source, rows, ones(rows), out, SMALL, workers=workers)
    assert report["samples"] == ROWS


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "bmp"}, "--format 'bmp' is not one of keep, jpg, webp"),
        ({"resize": 0}, "--resize 0 is not in"),
        ({"quality": 101}, "--quality 101 is not in"),
        ({"samples_per_shard": 0}, "--samples-per-shard 0 is not in"),
    ],
)
def test_settings_out_of_range_are_refused(source, tmp_path, settings, says):
    with pytest.raises(UserError, match=says):
        materialise(
            source, np.arange(5), ones(np.arange(5)), tmp_path / "out", ShardSettings(**settings)
        )


def test_a_source_on_a_server_gives_the_same(source, tmp_path):
    files, _ = fsspec.core.url_to_fs("memory://materialise/source")
    for path in (tmp_path / "source").glob("*.tar"):
        files.pipe(f"/materialise/source/{path.name}", path.read_bytes())
    specs = ["memory://materialise/source"]
    far = Pool(tmp_path / "far", build_index(specs, tmp_path / "far"))
    rows = np.arange(ROWS)
    try:
        materialise(far, rows, ones(rows), tmp_path / "a", SMALL)
    finally:
        files.rm("/materialise", recursive=True)
    materialise(source, rows, ones(rows), tmp_path / "b", SMALL)
    for path in (tmp_path / "b").glob("0*"):
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()
