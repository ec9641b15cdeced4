import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import pil_to_tensor

from selffilter.evaluation.samples import read_npy
from selffilter.evaluation.sets import EvaluationSet


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(7),
        np.zeros((0,), np.uint8),
        np.array([True, False]),
    ],
)
def test_arrays_are_read_as_numpy_reads_them(array, npy):
    found = read_npy(npy(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_objects_are_never_unpickled(npy):
    with pytest.raises(ValueError, match="objects"):
        read_npy(npy(np.array([{}], dtype=object)))


def test_a_header_that_promises_more_than_there_is_takes_no_memory(npy):
    data = npy(np.arange(4, dtype=np.int64))
    huge = data.replace(b"(4,), }" + b" " * 12, b"(1099511627776,), }")
    assert len(huge) == len(data)
    for broken in (data.replace(b"(4,)", b"(9,)"), data.replace(b"}", b" "), data[:-1], huge):
        with pytest.raises(ValueError):
            read_npy(broken)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_array_are_a_value_error(data):
    with pytest.raises(ValueError):
        read_npy(data)


def batches(home, **options):
    settings = {"batch_size": 4, "workers": 0, "max_pixels": 10**6} | options
    data = EvaluationSet(str(home))
    return list(data.batches(lambda image: pil_to_tensor(image).float(), **settings))


def test_batches_keep_the_order_and_leave_out_what_is_unusable(drawings_set, drawings):
    found = batches(drawings_set)
    labels = [known.class_ for batch in found for known in batch.labels]
    assert labels == [class_ for _, class_ in drawings]
    assert [len(batch.image) for batch in found] == [len(batch.labels) for batch in found]
    assert [len(b.labels) + len(b.unusable) for b in found] == [4] * 5 + [2] + [4] * 5 + [1]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(drawings_set, workers):
    pairs = zip(batches(drawings_set), batches(drawings_set, workers=workers), strict=True)
    for mine, other in pairs:
        assert mine.labels == other.labels
        assert mine.unusable == other.unusable
        assert mine.image.equal(other.image)


@pytest.mark.parametrize(
    ("extension", "data", "reason"),
    [
        ("cls", b"x", "cls_unreadable"),
        ("cls", b"", "cls_unreadable"),
        ("cls", b"7", "cls_out_of_range"),
        ("cls", b"-1", "cls_out_of_range"),
        ("cls", b"9" * 5000, "cls_unreadable"),
        ("cls", b"1" * ((1 << 20) + 1), "cls_unreadable"),
        ("png", b"", "image_unreadable"),
    ],
)
def test_every_reason_is_named(extension, data, reason, write_classification, picture, tmp_path):
    good = {"png": picture(), "cls": b"1"}
    home = write_classification(tmp_path / "set", [good, good | {extension: data}, good])
    (batch,) = batches(home)
    assert batch.unusable == [reason]
    assert len(batch.labels) == 2


@pytest.mark.parametrize(
    ("value", "group"),
    [
        (np.array([3, 4]), 3),
        (np.array([3.0, 0.5]), 3),
        (np.array([-(2**63)]), -(2**63)),
        (np.array([2**64 - 1], dtype=np.uint64), None),
        (np.array([1.5]), None),
        (np.array([1e300]), None),
        (np.array([np.nan]), None),
        (np.array(["3"]), None),
        (np.zeros(0, np.int64), None),
    ],
)
def test_groups_are_whole_numbers(value, group, write_classification, npy, picture, tmp_path):
    sample = {"png": picture(), "cls": b"1", "npy": npy(value)}
    (batch,) = batches(write_classification(tmp_path / "set", [sample], groups=["place"]))
    if group is None:
        assert batch.unusable == ["npy_unreadable"]
    else:
        assert batch.labels[0].groups == (group,)


@pytest.mark.parametrize(
    ("value", "readable"),
    [
        (np.array([0, 1, 0]), True),
        (np.array([0.0, 1.0, 1.0]), True),
        (np.array([0, 1]), False),
        (np.array([[0, 1, 0]]), False),
        (np.array([0, 2, 0]), False),
        (np.array([0, np.nan, 0]), False),
        (np.array(["a", "b", "c"]), False),
        (np.array([None, 1, 0], dtype=object), False),
    ],
)
def test_labels_of_several_classes_are_a_zero_or_one_each(
    value, readable, write_set, npy, picture, tmp_path
):
    texts = {"classnames": ["a", "b", "c"], "zeroshot_classification_templates": ["{c}"]}
    sample = {"png": picture(), "npy": npy(value)}
    home = write_set(tmp_path / "set", [sample], dataset_type=["multilabel"], **texts)
    (batch,) = batches(home)
    assert (batch.unusable == []) is readable
    if readable:
        assert batch.labels[0].classes == tuple(bool(v) for v in value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"one", ("one",)),
        (b"one\ntwo \r\n\n three\n", ("one", "two ", " three")),
        ("süß\n".encode(), ("süß",)),
        (b" \n\n", "caption_empty"),
        (b"\xff\xfe", "txt_unreadable"),
        (None, "missing_txt"),
    ],
)
def test_captions_are_lines(text, found, write_set, picture, tmp_path):
    sample = {"png": picture()} | ({} if text is None else {"txt": text})
    (batch,) = batches(write_set(tmp_path / "set", [sample], dataset_type=["retrieval"]))
    if isinstance(found, str):
        assert batch.unusable == [found]
    else:
        assert batch.labels[0].captions == found


@pytest.mark.parametrize(
    "about",
    [
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"cue": 1, "candidates": ["a"], "associations": ["a"]}',
        b'{"cue": "a", "candidates": [["a"]], "associations": [["a"]]}',
        b'{"cue": "a", "candidates": ["a"], "associations": ["b"]}',
        b'{"candidates": ["a"], "associations": ["a"]}',
        json.dumps({"cue": "a", "candidates": list(range(33)), "associations": [0]}).encode(),
    ],
)
def test_a_cue_without_its_facts_is_unusable(about, write_set, picture, tmp_path):
    sample = {"json": about, "0.png": picture()}
    (batch,) = batches(write_set(tmp_path / "set", [sample], dataset_type=["association"]))
    assert batch.unusable == ["json_unreadable"]
