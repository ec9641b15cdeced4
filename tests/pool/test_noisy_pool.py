"""A pool with planted noise on disk: what is in it and what is not; stopping changes nothing."""

import io
import json
import os
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selffilter import store
from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth
from selffilter.pool import noisy_pool, uids
from selffilter.pool.index import Pool, build_index
from selffilter.pool.noise.settings import NoiseSettings, parse_mix
from selffilter.pool.noise.texts import normalise_caption
from selffilter.pool.noisy_pool import describe_noise, write_noisy_pool
from selffilter.pool.tar_scan import scan_tar
from selffilter.scoring.given import GivenScores

ANIMALS = ["cat", "dog", "bird", "fish"]
PER_SHARD = 20
FORMS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


def caption_of(i):
    return f"a {ANIMALS[i % 4]} that is number{i} of group{i // 8}"


def sample_of(i, picture):
    extension = list(FORMS)[i % 3]
    about = {
        "url": f"https://example.org/{i}", "label": ANIMALS[i % 4], "title": caption_of(i),
        "caption": caption_of(i), "group": f"g{i // 8}", "width": 12, "clip_score": 0.3,
        "license": "CC0",
    }  # fmt: skip
    if i % 2:
        about["uid"] = f"{i:032x}"
    return f"{i:05d}", {
        extension: picture(i, form=FORMS[extension]),
        "txt": f" {caption_of(i)}\n".encode(),
        "json": json.dumps(about).encode(),
        "cls": str(i % 4).encode(),
    }


@pytest.fixture
def source(tmp_path, make_tar, picture):
    """Three shards of 20; six rows that cannot be used; the last shard ends inside a caption."""
    for shard in range(3):
        samples = [sample_of(i, picture) for i in range(shard * PER_SHARD, (shard + 1) * PER_SHARD)]
        if shard == 1:
            del samples[2][1]["jpg"]
            del samples[3][1]["txt"]
            samples[4][1]["txt"] = b" \n"
            samples[5][1]["txt"] = b"\xff\xfe"
            samples[7][1]["json"] = samples[9][1]["json"]  # a uid that stands twice
            samples[10][1]["json"] = b"no json"
        make_tar(tmp_path / "source" / f"{shard:05d}.tar", samples)
    last = tmp_path / "source" / "00002.tar"
    cut = scan_tar(str(last), "source", last.name, "txt").caption[15][0] + 1
    last.write_bytes(last.read_bytes()[:cut])
    return tmp_path / "source"


def plant(source, out, **settings):
    return write_noisy_pool([str(source)], out, NoiseSettings(**settings))


def read_samples(pool):
    """Return uid → {extension: bytes} of all tars, in order."""
    samples = {}
    for path in sorted(pool.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return samples


def read_truth(out):
    return {row["uid"]: row for row in pq.read_table(out / "truth.parquet").to_pylist()}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def index_of(folder, pool):
    return Pool(folder, build_index([str(pool)], folder))


EVERY_KIND = [
    {"kind": kind, "rate": 0.4, "label_key": "label", "copies_per_source": copies}
    for kind, copies in [
        ("mismatched", None), ("boilerplate", None), ("near_duplicate_flood", 5),
        ("truncated", None), ("hard_mismatched", None), ("web_mixture", 2),
        ("text_in_image", None), ("wrong_language", None),
    ]
]  # fmt: skip


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda s: s["kind"])
def test_pool_and_truth_say_the_same_whatever_the_kind(settings, source, tmp_path):
    out = tmp_path / "out"
    report = plant(source, out, **settings)
    samples, truth = read_samples(out / "pool"), read_truth(out)
    assert list(samples) == list(truth)
    for uid, row in truth.items():
        caption = samples[uid]["txt"].decode()
        assert row["clean"] == (row["kind"] == "untouched") == (row["original_caption"] is None)
        if row["kind"] in ("mismatched", "hard_mismatched"):
            assert caption == truth[row["source_uid"]]["original_caption"]
            assert caption != row["original_caption"]
        elif row["kind"] == "near_duplicate":
            original = samples[row["source_uid"]]
            assert truth[row["source_uid"]]["clean"]
            assert normalise_caption(caption).startswith(
                normalise_caption(original["txt"].decode())
            )
        else:
            assert row["source_uid"] is None
    kinds = [row["kind"] for row in truth.values()]
    assert report["planted"] == {k: kinds.count(k) for k in sorted(set(kinds)) if k != "untouched"}
    assert sum(report["asked"].values()) == round(0.4 * len(samples))
    assert report == store.read_json(out / "noise.json")


def test_all_usable_samples_are_there_in_order_and_the_others_are_counted(source, tmp_path):
    before = index_of(tmp_path / "a", source)
    report = plant(source, tmp_path / "out")
    assert report["left_out"] == {
        "missing_image": 1, "missing_caption": 2, "duplicate_uid": 1, "caption_unreadable": 1,
        "caption_empty": 1,
    }  # fmt: skip
    assert report["samples"] + sum(report["left_out"].values()) == before.rows
    assert len(report["problems"]) == 1 and "00002.tar" in report["problems"][0]
    assert report["settings"]["shards"][2]["bytes"] == (source / "00002.tar").stat().st_size
    after = index_of(tmp_path / "b", tmp_path / "out" / "pool")
    assert after.defect_counts() == {}
    # The last row lost its caption with the end of the tar; of rows 27 and 29 the first stays.
    usable = np.setdiff1d(np.arange(before.rows), [22, 23, 24, 25, 29, before.rows - 1])
    assert uids.to_hex(after.uids_of(np.arange(after.rows))) == uids.to_hex(before.uids_of(usable))
    assert report["samples_by_shard"] == np.diff(after.first_row).tolist()


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda s: s["kind"])
def test_nothing_in_the_tars_tells_what_was_planted(settings, source, tmp_path):
    out = tmp_path / "out"
    plant(source, out, **settings)
    truth = read_truth(out)
    kept = {"uid", "url", "caption", "license"}
    for path in (out / "pool").glob("*.tar"):
        with tarfile.open(path) as tar:
            about = {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname) for m in tar}
        assert about == {(0, 0o644, 0, 0, "", "")}
    for uid, members in read_samples(out / "pool").items():
        assert list(members) == sorted(members)
        assert len(members) == 3 and {"json", "txt"} < set(members)
        fields = json.loads(members["json"])
        assert set(fields) in (kept, {"uid"})  # the sample without a json has its uid alone
        assert fields["uid"] == uid
        assert fields.get("caption", members["txt"].decode()) == members["txt"].decode()
        # Neither white space, nor the format of the image, nor the old caption.
        assert members["txt"] == members["txt"].strip()
        old = truth[uid]["original_caption"]
        if old and settings["kind"] not in ("truncated", "text_in_image"):
            assert old.encode() not in members["json"] + members["txt"]


def test_every_image_keeps_its_bytes_and_copies_take_the_format_of_their_row(source, tmp_path):
    before = index_of(tmp_path / "index", source)
    known = uids.to_hex(before.uids_of(np.arange(before.rows)))
    out = tmp_path / "out"
    plant(source, out, kind="near_duplicate_flood", rate=0.5, copies_per_source=9)
    truth = read_truth(out)
    originals = [members for path in sorted(source.glob("*.tar")) for members in _raw(path)]
    copies = 0
    for uid, members in read_samples(out / "pool").items():
        old = originals[known.index(uid)]
        (extension,) = set(members) - {"json", "txt"}
        if truth[uid]["kind"] == "near_duplicate":
            copies += 1
            assert members[extension] != old[extension]
            assert Image.open(io.BytesIO(members[extension])).format == FORMS[extension]
        else:
            assert members[extension] == old[extension]
    assert copies == round(0.5 * len(truth))


def test_an_image_of_text_has_format_and_size_of_the_one_that_it_takes_the_place_of(
    source, tmp_path
):
    before = index_of(tmp_path / "index", source)
    known = uids.to_hex(before.uids_of(np.arange(before.rows)))
    out = tmp_path / "out"
    plant(source, out, kind="text_in_image", rate=0.5)
    truth = read_truth(out)
    originals = [members for path in sorted(source.glob("*.tar")) for members in _raw(path)]
    for uid, members in read_samples(out / "pool").items():
        old = originals[known.index(uid)]
        (extension,) = set(members) - {"json", "txt"}
        assert members["txt"] == old["txt"].strip()
        assert (members[extension] == old[extension]) == truth[uid]["clean"]
        one, other = (Image.open(io.BytesIO(m[extension])) for m in (members, old))
        assert (one.format, one.size) == (other.format, other.size)


def test_an_image_that_is_broken_is_not_replaced(tmp_path, make_tar, picture):
    samples = [
        (f"{i}", {"jpg": b"broken" if i % 2 else picture(i), "txt": caption_of(i).encode()})
        for i in range(12)
    ]
    make_tar(tmp_path / "source" / "0.tar", samples)
    report = plant(tmp_path / "source", tmp_path / "out", kind="text_in_image", rate=0.9)
    assert (report["asked"], report["planted"]) == ({"text_in_image": 11}, {"text_in_image": 6})
    kinds = [row["kind"] for row in read_truth(tmp_path / "out").values()]
    assert kinds == ["text_in_image", "untouched"] * 6


def test_an_image_too_long_for_another_format_is_not_copied(tmp_path, make_tar, picture):
    samples = [
        (f"{i}", {form: picture(i, (side, 2), FORMS[form]), "txt": caption_of(i).encode()})
        for i in range(12)
        for form, side in [("png", 30_000) if i % 2 else ("webp", 20)]
    ]
    make_tar(tmp_path / "source" / "0.tar", samples)
    out = tmp_path / "out"
    report = plant(
        tmp_path / "source", out, kind="near_duplicate_flood", rate=0.5, copies_per_source=1
    )
    assert report["planted"] == {"near_duplicate": 6}
    originals = [members for members in _raw(tmp_path / "source" / "0.tar")]
    order = {uid: i for i, uid in enumerate(read_truth(out))}
    sources = {r["source_uid"] for r in read_truth(out).values() if r["source_uid"]}
    assert sources and all("webp" in originals[order[uid]] for uid in sources)


def _raw(path):
    """Return the members of each sample of a tar that may be cut off."""
    samples = {}
    with tarfile.open(path) as tar:
        try:
            for member in tar:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
        except tarfile.ReadError:
            pass
    return list(samples.values())


def test_the_truth_is_read_by_evaluation_and_the_oracle_by_scoring(source, tmp_path):
    out = tmp_path / "out"
    report = plant(source, out, rate=0.5)
    pool = index_of(tmp_path / "index", out / "pool")
    rows = np.arange(pool.rows)
    scores = GivenScores(out / "truth_scores.parquet").of(pool.uids_of(rows))
    truth = Truth(out / "truth.parquet", pool)
    assert truth.precision(rows) == pytest.approx(report["clean"] / report["samples"])
    assert truth.auc(rows, scores) == 1
    assert set(scores.tolist()) == {0.0, 1.0}


def test_captions_of_a_label_are_not_exchanged_and_clusters_hold_hard_ones(source, tmp_path):
    plant(source, tmp_path / "a", rate=0.6, label_key="label")
    before = index_of(tmp_path / "index", source)
    known = uids.to_hex(before.uids_of(np.arange(before.rows)))
    jsons = [m.get("json", b"") for path in sorted(source.glob("*.tar")) for m in _raw(path)]
    label = {u: json.loads(t)["label"] for u, t in zip(known, jsons, strict=False) if t[:1] == b"{"}
    exchanged = [row for row in read_truth(tmp_path / "a").values() if not row["clean"]]
    assert len(exchanged) > 20
    for row in exchanged:
        one, other = label.get(row["uid"]), label.get(row["source_uid"])
        assert one is None or one != other  # one sample's json is broken: nothing is known of it
    out = tmp_path / "b"
    plant(source, out, kind="hard_mismatched", rate=0.6, cluster_key="group")
    planted = [row for row in read_truth(out).values() if not row["clean"]]
    captions = {uid: m["txt"].decode() for uid, m in read_samples(out / "pool").items()}
    assert len(planted) > 20
    for row in planted:
        assert captions[row["uid"]].split()[-1] == row["original_caption"].split()[-1]


@pytest.mark.parametrize("caption_key", ["json:title", "json:caption"])
def test_captions_inside_the_json_are_read_and_written_there(caption_key, source, tmp_path):
    out = tmp_path / "out"
    plant(source, out, rate=0.5, caption_key=caption_key)
    truth, field = read_truth(out), caption_key.partition(":")[2]
    for uid, members in read_samples(out / "pool").items():
        assert "txt" not in members
        fields = json.loads(members["json"])
        assert fields["caption"] == fields[field]
        if not truth[uid]["clean"]:
            assert fields[field] == truth[truth[uid]["source_uid"]]["original_caption"]


def test_fields_can_be_kept_but_not_the_label(source, tmp_path):
    plant(source, tmp_path / "out", keep_fields=("clip_score",), label_key="label")
    fields = [json.loads(m["json"]) for m in read_samples(tmp_path / "out" / "pool").values()]
    assert sum("clip_score" in one for one in fields) >= len(fields) - 1
    with pytest.raises(UserError, match="--label-key label would stay in the json"):
        plant(source, tmp_path / "other", keep_fields=("label",), label_key="label")


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(source, tmp_path):
    settings = {"kind": "web_mixture", "rate": 0.5, "copies_per_source": 2}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        plant(source, tmp_path / name, seed=seed, **settings)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["truth.parquet"] != contents(tmp_path / "c")["truth.parquet"]


def test_killed_at_any_file_it_goes_on_to_the_same_result(source, tmp_path, monkeypatch):
    settings = {"kind": "web_mixture", "rate": 0.5, "copies_per_source": 2}
    plant(source, tmp_path / "whole", **settings)
    whole = contents(tmp_path / "whole")
    sync = os.fsync
    left = 0

    def counting_sync(fd):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        sync(fd)

    monkeypatch.setattr(store.os, "fsync", counting_sync)
    for stop_after in range(100):
        out = tmp_path / f"out{stop_after}"
        left = stop_after
        try:
            plant(source, out, **settings)
            break
        except KeyboardInterrupt:
            left = 1000
        if (out / "pool").exists() and not (out / "noise.json").exists():
            # What a harder kill leaves of a file that was being written.
            (out / "pool" / ".00001.tar.123.abc.tmp").write_bytes(b"half")
        plant(source, out, **settings)
        assert contents(out) == whole
    assert stop_after > 20


def test_shards_that_are_there_are_not_written_again(source, tmp_path, monkeypatch):
    written = []
    write = noisy_pool.write_tar

    def stop_at_the_third(path, samples):
        written.append(path.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, samples)

    monkeypatch.setattr(noisy_pool, "write_tar", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        plant(source, tmp_path / "out")
    plant(source, tmp_path / "out")
    assert written == ["00000.tar", "00001.tar", "00002.tar", "00002.tar"]
    assert sorted(os.listdir(tmp_path / "out")) == [
        "noise.json", "pool", "truth.parquet", "truth_scores.parquet",
    ]  # fmt: skip


def test_a_second_call_returns_at_once(source, tmp_path, monkeypatch):
    report = plant(source, tmp_path / "out")

    def fail(*_, **__):
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(noisy_pool, "build_index", fail)
    assert plant(source, tmp_path / "out") == report


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "seed=0, not 1"),
        ({"rate": 0.4}, "rate=0.5, not 0.4"),
        ({"kind": "boilerplate"}, "kind=mismatched, not boilerplate"),
        ({"label_key": "label"}, "label_key=None, not label"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_on_the_same_place_are_refused(
    change, says, complete, source, tmp_path, monkeypatch
):
    if not complete:
        monkeypatch.setattr(noisy_pool, "write_truth", _killed)
        with pytest.raises(KeyboardInterrupt):
            plant(source, tmp_path / "out")
    else:
        plant(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=f"was made with {says}: choose another place"):
        plant(source, tmp_path / "out", **change)
    assert contents(tmp_path / "out") == before


def _killed(*_):
    raise KeyboardInterrupt


def test_a_setting_that_was_refused_by_the_data_can_be_mended(source, tmp_path):
    with pytest.raises(UserError, match="--label-key lable: no sample's json has such a field"):
        plant(source, tmp_path / "out", label_key="lable")
    plant(source, tmp_path / "out", label_key="label")


def test_a_source_that_changed_is_refused(source, tmp_path, monkeypatch):
    out, first = tmp_path / "out", source / "00000.tar"
    monkeypatch.setattr(noisy_pool, "write_truth", _killed)
    with pytest.raises(KeyboardInterrupt):
        plant(source, out)
    monkeypatch.undo()
    # Of the same size, but another time: the bytes may be others.
    os.utime(first, (1, 1))
    with pytest.raises(UserError, match=r"the source has changed since .*out was begun"):
        plant(source, out)
    first.write_bytes(first.read_bytes() + b"\0" * 512)
    with pytest.raises(UserError, match="was made from other shards"):
        plant(source, out)


def test_a_place_that_holds_something_else_is_left_alone(source, tmp_path):
    with pytest.raises(UserError, match="is there, and is no noisy pool"):
        plant(source, source)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is there, and is no noisy pool"):
        plant(source, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "mismatchd"}, "Did you mean 'mismatched'?"),
        ({"rate": 0.0}, r"--rate 0.0 is not in \(0, 1\]"),
        ({"rate": 1.5}, r"--rate 1.5 is not in \(0, 1\]"),
        ({"rate": float("nan")}, "--rate nan is not in"),
        ({"rate": 0.001}, "--rate 0.001 of 5. samples is none"),
        ({"caption_key": "json"}, "--caption-key='json': which field of the json"),
        ({"caption_key": "json:uid"}, "--caption-key='json:uid': uid is no field of captions"),
        ({"caption_key": "png"}, "--caption-key='png': 'png' is where images stand"),
        ({"caption_key": "text"}, "has a caption at .*text"),
        ({"cluster_key": "group"}, "--cluster-key is for hard mismatches"),
        ({"kind": "hard_mismatched", "cluster_key": "grp"}, "--cluster-key grp: no sample's json"),
        ({"copies_per_source": 5}, "--copies-per-source is for near-duplicates"),
        ({"kind": "near_duplicate_flood", "copies_per_source": 0.5}, "0.5 is below 1"),
        ({"mix": {"mismatched": 1}}, "--mix is for --kind web_mixture, not mismatched"),
        ({"kind": "web_mixture", "mix": {"truncate": 1}}, "Did you mean 'truncated'?"),
        ({"kind": "web_mixture", "mix": {"web_mixture": 1}}, "web_mixture is not one of"),
        ({"kind": "web_mixture", "mix": {"truncated": -1}}, "truncated=-1 is no proportion"),
        ({"kind": "web_mixture", "mix": {"truncated": 0}}, "the proportions sum to 0"),
        ({"label_key": "url"}, "--label-key url would stay"),
    ],
)
def test_a_mistake_is_refused_in_one_sentence_and_nothing_is_written(
    settings, says, source, tmp_path
):
    with pytest.raises(UserError, match=says):
        plant(source, tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "pool").exists()


def test_a_mix_is_written_as_pairs():
    assert parse_mix("mismatched=0.7, boilerplate=.3") == {"mismatched": 0.7, "boilerplate": 0.3}
    for text in ("mismatched", "mismatched=much", "", "mismatched=1,mismatched=2"):
        with pytest.raises(UserError, match="--mix: "):
            parse_mix(text)


def test_a_mix_sets_the_proportions(source, tmp_path):
    mix = {"truncated": 3.0, "boilerplate": 1.0, "mismatched": 0.0}
    report = plant(source, tmp_path / "out", kind="web_mixture", rate=0.4, mix=mix)
    total = round(0.4 * report["samples"])
    assert report["asked"] == report["planted"]
    assert set(report["asked"]) == {"truncated", "boilerplate"}
    assert abs(report["asked"]["truncated"] - 0.75 * total) < 1


def test_the_report_says_what_fell_short(make_tar, picture, tmp_path):
    samples = [(f"{i}", {"png": picture(i), "txt": b"always the same"}) for i in range(10)]
    make_tar(tmp_path / "source" / "0.tar", samples)
    report = plant(tmp_path / "source", tmp_path / "out", rate=0.5)
    text = describe_noise(report, tmp_path / "out")
    assert "0   of 5 asked: no more could be planted" in text
    assert report["clean"] == 10
    assert report["repeated_captions"] == {"before": 1.0, "after": 1.0}
