"""Every reader of files, fed files that were edited at random: it uses them, or says what is wrong.

`benchmarks/reliability/fuzz.py` does the same for as long as you like, with bounded memory;
SELFFILTER_FUZZ=N tries N times as many files here.
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reliability.mutate import KINDS, Edit, edited, mended_png, mended_tar
from benchmarks.reliability.targets import TARGETS, outcome

TIMES = int(os.environ.get("SELFFILTER_FUZZ", "1"))
SLOW = {"config": 15, "tar index": 40, "evaluation samples": 40}

places = st.one_of(st.integers(0, 511), st.integers(0, 1 << 20))
edits = st.lists(
    st.builds(Edit, st.sampled_from(KINDS), places, st.integers(1, 1024), st.integers(0, 1023)),
    min_size=1,
    max_size=5,
).map(tuple)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_an_edited_file_is_used_or_refused_in_words(target, folder):
    good = target.good()

    @settings(max_examples=TIMES * SLOW.get(target.name, 60))
    @given(number=st.integers(0, len(good) - 1), edits=edits, mended=st.booleans())
    def feed(number, edits, mended):
        path = folder / f"now{target.suffix}"
        path.unlink(missing_ok=True)  # another file each time: the last one may still be mapped
        data = edited(good[number], edits)
        path.write_bytes(target.mended(data) if mended else data)
        outcome(target, path)

    feed()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_files_that_are_edited_are_good(target, folder):
    for data in target.good():
        path = folder / f"good{target.suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        assert outcome(target, path) == "read"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_length_of_a_file_that_breaks_off_is_a_crash(target, folder):
    data = target.good()[0]
    for length in sorted({0, 1, 7, 8, 511, 512, *range(0, len(data), max(1, len(data) // 20))}):
        path = folder / f"cut{target.suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(data[:length])
        outcome(target, path)


def test_edits_are_the_same_each_time_and_every_kind_changes_something():
    data = bytes(range(48, 112)) * 3
    for kind in KINDS:
        edit = Edit(kind, 5, 9, 2)
        assert edited(data, (edit,)) == edited(data, (edit,)) != data


def test_mending_leaves_good_files_as_they_are():
    good = {target.name: target.good() for target in TARGETS}
    assert [mended_png(data) for data in good["image decoders"]] == good["image decoders"]
    for data in good["tar index"]:
        assert mended_tar(data) == data
