import pytest

from selffilter.errors import UserError
from selffilter.evaluation.sets import EvaluationSet, open_sets


def test_a_set_says_what_it_is(drawings_set, caption_set):
    data = EvaluationSet(str(drawings_set))
    assert (data.name, data.kind) == ("drawings", "classification")
    assert data.classnames[:2] == ["red fox", "barn"]
    assert data.templates[1] == "{c}"
    assert data.total_bytes == sum(p.stat().st_size for p in drawings_set.glob("test/*.tar"))
    assert EvaluationSet(str(caption_set)).kind == "retrieval"
    assert EvaluationSet(f"mine={drawings_set}/").name == "mine"


def test_a_blank_line_among_the_classes_counts_for_they_are_numbered(drawings_set):
    path = drawings_set / "classnames.txt"
    path.write_text(path.read_text().replace("barn", " "))
    names = EvaluationSet(str(drawings_set)).classnames
    assert (names[1], names[2], len(names)) == ("", "sea", 7)


def test_the_fingerprint_changes_with_texts_and_shards_alone(drawings_set):
    before = EvaluationSet(str(drawings_set)).fingerprint
    assert EvaluationSet(f"other={drawings_set}").fingerprint == before
    assert EvaluationSet(str(drawings_set), groups={"a": 0}).fingerprint != before
    templates = drawings_set / "zeroshot_classification_templates.txt"
    text = templates.read_text()
    templates.write_text(text + "a {c}\n")
    assert EvaluationSet(str(drawings_set)).fingerprint != before
    templates.write_text(text)
    assert EvaluationSet(str(drawings_set)).fingerprint == before
    with (drawings_set / "test" / "1.tar").open("ab") as file:
        file.write(bytes(10240))
    assert EvaluationSet(str(drawings_set)).fingerprint != before


def test_a_folder_that_is_no_set_is_refused_by_name(drawings_set, tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not an evaluation set.*there is no folder"):
        EvaluationSet(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is not an evaluation set.*classnames\.txt"):
        EvaluationSet(str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"drawings is not .*train/nshards\.txt"):
        EvaluationSet(str(drawings_set), split="train")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("test/nshards.txt", "3", r"nshards\.txt says 3, but test/2\.tar is not there"),
        ("test/nshards.txt", "many", "many"),
        ("test/nshards.txt", "0", r"nshards\.txt says 0"),
        ("classnames.txt", "", r"classnames\.txt is empty"),
        ("dataset_type.txt", "detection", "dataset_type.txt says 'detection'"),
        ("zeroshot_classification_templates.txt", "a {}\n", r"no line of .*has \{c\}"),
    ],
)
def test_a_set_with_a_fault_is_refused_with_the_fault(name, text, says, drawings_set):
    (drawings_set / name).write_text(text)
    with pytest.raises(UserError, match=f"drawings is not an evaluation set.*{says}"):
        EvaluationSet(str(drawings_set))


def test_a_shell_command_is_no_location(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spec in ("pipe:touch here", "pipe://touch here", "| touch here"):
        with pytest.raises(UserError, match=r"is not an evaluation set|no file system is known"):
            EvaluationSet(spec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [700, 5000, -11_000])
def test_a_broken_tar_is_refused_not_evaluated_in_part(keep, drawings_set):
    path = drawings_set / "test" / "1.tar"
    path.write_bytes(path.read_bytes()[:keep])
    data = EvaluationSet(str(drawings_set))
    with pytest.raises(UserError, match=r"drawings: test/1\.tar is a broken tar \(.+\)"):
        list(data.batches(lambda _: None, batch_size=4, workers=0, max_pixels=1))


def test_two_sets_of_one_name_are_told_apart_by_the_user(drawings_set, caption_set):
    opened = open_sets([str(drawings_set), f"again={drawings_set}", str(caption_set)])
    assert [data.name for data in opened] == ["drawings", "again", "captions"]
    with pytest.raises(UserError, match=r"two evaluation sets are called 'drawings'.*NAME="):
        open_sets([str(drawings_set), f"{drawings_set}/"])
