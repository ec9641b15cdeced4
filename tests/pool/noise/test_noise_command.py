"""`selffilter noise`, as its user meets it."""

import sys

import pytest

from selffilter.cli import main
from selffilter.store import read_json


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["selffilter", "noise", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.fixture
def shards(make_tar, picture, tmp_path):
    for shard in range(2):
        samples = [
            (f"{i}", {"png": picture(i), "txt": f"word{i % 3} thing{i}".encode()})
            for i in range(shard * 10, shard * 10 + 10)
        ]
        make_tar(tmp_path / "shards" / f"{shard}.tar", samples)
    return tmp_path / "shards"


def test_it_plants_says_so_and_says_how_to_go_on(shards, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ("--kind", "web_mixture", "--rate", "0.5", "--mix", "mismatched=1,truncated=1")
    code = run(monkeypatch, f"a={shards}/0.tar", f"b={shards}/[1].tar", out, *words, "--seed", "7")
    assert not code
    said = capsys.readouterr().out
    assert "20 samples from 2 shards" in said
    assert "mismatched                 5" in said and "truncated                  5" in said
    assert f"evaluate.truth={out}/truth.parquet" in said
    report = read_json(out / "noise.json")
    assert report["seed"] == 7 and report["planted"] == {"mismatched": 5, "truncated": 5}
    assert [s["source"] for s in report["settings"]["shards"]] == ["a", "b"]


def test_a_place_that_cannot_be_written_to_is_named(shards, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, shards, tmp_path / "file" / "out") == 2
    said = capsys.readouterr().err
    assert f"cannot write: {tmp_path}/file" in said and "Traceback" not in said


@pytest.mark.parametrize("text", ["no json", "[1]", "{}"])
def test_a_noise_json_of_another_program_is_left_alone(text, shards, tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "noise.json").write_text(text)
    assert run(monkeypatch, shards, tmp_path / "out") == 2
    assert "noise.json is none of ours" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["noise.json"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "truncate"], "Did you mean 'truncated'?"),
        (["--rate", "2"], "--rate 2.0 is not in (0, 1]"),
        (["--kind", "web_mixture", "--mix", "truncated"], "is not KIND=NUMBER"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_code_2(
    words, says, shards, tmp_path, monkeypatch, capsys
):
    assert run(monkeypatch, shards, tmp_path / "out", *words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
