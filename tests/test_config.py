import dataclasses
from pathlib import Path

import pytest
import yaml

from selffilter.config import (
    CHOICES,
    MAY_CHANGE_ON_RESUME,
    PER_ROUND,
    RANGES,
    Config,
    differences,
    flatten,
    load_config,
    read_run_config,
    refuse_changed,
    shipped_config,
    to_yaml,
)
from selffilter.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs"
POOL = "pool.shards=[/data/pool]"


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def refused(*words, path=None, pool=POOL):
    with pytest.raises(UserError) as caught:
        load_config(path, [pool, *words])
    return str(caught.value)


def test_the_default_yaml_has_every_field_of_the_schema_with_its_default():
    text = (CONFIGS / "default.yaml").read_text()
    in_yaml = dict(leaves(yaml.safe_load(text)))
    for field in PER_ROUND:  # one number stands for all rounds
        value = in_yaml[field]
        in_yaml[field] = value if isinstance(value, list) else [value]
    in_schema = flatten(load_config(None, [POOL]))
    assert in_yaml.pop("pool.shards") == "???"
    in_schema.pop("pool.shards")
    # YAML 1.1 reads 5.0e-4 as a number, so types are compared too.
    assert {k: (type(v), v) for k, v in in_yaml.items()} == {
        k: (type(v), v) for k, v in in_schema.items()
    }
    assert list(in_yaml) == list(in_schema)


RUNS = sorted(p for p in CONFIGS.glob("*.yaml") if p.stem not in ("controls", "sweep"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    config = load_config(path, [POOL])
    assert config.pool.shards == ["/data/pool"]
    assert shipped_config(path.stem).read_text() == path.read_text()


def test_a_config_that_is_not_shipped_is_refused():
    with pytest.raises(UserError, match="ships no config 'nothing'"):
        shipped_config("nothing")


def test_choices_and_ranges_are_of_fields_that_exist():
    fields = set(flatten(load_config(None, [POOL])))
    assert set(CHOICES) <= fields
    assert set(RANGES) <= fields
    groups = {field.split(".")[0] for field in fields}
    assert set(MAY_CHANGE_ON_RESUME) <= fields | groups


def test_the_command_line_goes_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("train:\n  learning_rate: 0.25\n  beta1: 0.5\npool:\n  shards: [/a]\n")
    config = load_config(path, ["train.learning_rate=0.125", "seed=3"])
    assert config.train.learning_rate == 0.125
    assert config.train.beta1 == 0.5
    assert config.train.beta2 == 0.98
    assert (config.seed, config.pool.shards) == (3, ["/a"])


@pytest.mark.parametrize(
    ("word", "name", "nearest"),
    [
        ("train.learning_rat=1", "train.learning_rat", "train.learning_rate"),
        ("sed=1", "sed", "seed"),
        ("learning_rate=1", "learning_rate", "train.learning_rate"),
        ("trian.beta1=0.5", "trian", "train"),
        ("train.keep_fraction=0.5", "train.keep_fraction", "select.keep_fraction"),
        ("select.keep=0.5", "select.keep", "select.keep_fraction"),
    ],
)
def test_a_key_that_there_is_not_is_refused_with_the_nearest(word, name, nearest):
    message = refused(word)
    assert f"the command line: there is no field {name!r}. Did you mean {nearest!r}?" in message


def test_a_wrong_key_in_a_file_is_refused_with_the_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("train:\n  lr: 1\n")
    assert f"{path}: there is no field 'train.lr'." in refused(path=path)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("seed=abc", "seed"),
        ("seed=1.5", "seed"),
        ("seed=true", "seed"),
        ("seed=[1]", "seed"),
        ("rounds.count=2.7", "rounds.count"),
        ("train.learning_rate=fast", "train.learning_rate"),
        ("train.learning_rate=null", "train.learning_rate"),
        ("train.augment=perhaps", "train.augment"),
        ("rounds.count=null", "rounds.count"),
        ("name=null", "name"),
        ("name=[a]", "name"),
        ("train=5", "train"),
        ("train=null", "train"),
        ("train=???", "train"),
        ("pool=???", "pool"),
        ("seed=${nothing}", "seed"),
        ("train=${nothing}", "train"),
        ("pool.shards=/data/pool", "pool.shards"),
        ("pool.shards=null", "pool.shards"),
        ("evaluate.zero_shot={a: 1}", "evaluate.zero_shot"),
        ("score.signal.name=cosine", "score.signal"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_fields_name(word, field):
    assert field in refused(word)


@pytest.mark.parametrize("field", CHOICES)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(field):
    message = refused(f"{field}=nonsense")
    assert message.startswith(f"{field}='nonsense' is not one of {', '.join(CHOICES[field])}.")
    almost = CHOICES[field][0] + "x"
    assert f"Did you mean {CHOICES[field][0]!r}?" in refused(f"{field}={almost}")


@pytest.mark.parametrize("field", RANGES)
def test_a_number_out_of_its_range_is_refused_with_the_range(field):
    low, high = RANGES[field]
    for value in (low - 1, high + 1):
        if value != float("inf"):
            assert f"{field}=" in (message := refused(f"{field}={value}"))
            assert f"is not in [{low:g}, {high:g}]" in message


@pytest.mark.parametrize("value", [".nan", "nan"])
def test_a_number_that_is_none_is_refused(value):
    assert "train.learning_rate" in refused(f"train.learning_rate={value}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["name=a/b"], "name='a/b' cannot be the name of a folder"),
        (["name=.."], "name='..' cannot be the name of a folder"),
        (["name=''"], "name='' cannot be the name of a folder"),
        (["select.keep_fraction=0", "select.diverse_fraction=0"], "both 0 in round 0: no data"),
        (["select.keep_fraction=[0.4,0]", "select.diverse_fraction=[0.2,0]"], "0 in round 1"),
        (["select.keep_fraction=[]"], "select.keep_fraction is empty"),
        (["select.keep_fraction=[0.5,1.5]"], "select.keep_fraction=1.5 is not in [0, 1]"),
        (["select.keep_fraction=[0,0.5]", "score.rescore=once"], "has no scores for a round"),
        (["rounds.fresh_weights_at=[0,2]"], "rounds that can begin anew are 1, 2, …"),
        (["rounds.bootstrap_fraction=0"], "leaves no samples for the bootstrap"),
        (["rounds.bootstrap_fraction=1"], "leaves no samples for the later rounds"),
        (["score.signal=given"], "needs score.given_scores"),
        (["pool.shards=[]"], "pool.shards is empty"),
        (["seed"], "'seed' is not key=value"),
        (["pool.shards=[a"], "the command line: "),
    ],
)
def test_what_cannot_be_is_refused_in_words(words, message):
    assert message in refused(*words)


def test_a_fraction_is_one_number_or_one_a_round_the_last_for_all_that_follow(tmp_path):
    assert load_config(None, [POOL, "select.keep_fraction=0.3"]).select.keep(4) == 0.3
    (tmp_path / "my.yaml").write_text("select: {keep_fraction: 1, diverse_fraction: [0.3, 0.1]}\n")
    select = load_config(tmp_path / "my.yaml", [POOL]).select
    assert [select.keep(r) for r in range(2)] == [1, 1]
    assert [select.diverse(r) for r in range(4)] == [0.3, 0.1, 0.1, 0.1]


def test_bootstrap_alone_may_take_everything():
    assert load_config(None, [POOL, "rounds.count=1", "rounds.bootstrap_fraction=1"])


def test_without_shards_it_says_what_to_give():
    with pytest.raises(UserError, match=r"pool\.shards is not set: .*pool\.shards='\["):
        load_config(None, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not a YAML file"),
        ("- a\n- b\n", "is not a mapping of fields"),
        ("a: 1\na: 2\n", "is not a YAML file"),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "my.yaml").write_text(text)
    assert f"my.yaml {message}" in refused(path=tmp_path / "my.yaml")
    assert "there is no config file" in refused(path=tmp_path / "other.yaml")


def test_a_fault_in_a_file_is_told_with_its_line(tmp_path):
    (tmp_path / "my.yaml").write_text("seed: 0\npool: {shards: [a=[1], b]}\n")
    assert "line 2" in refused(path=tmp_path / "my.yaml")


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "my.yaml").write_text("# nothing yet\n")
    assert load_config(tmp_path / "my.yaml", [POOL]) == load_config(None, [POOL])


def test_a_config_goes_through_yaml_unchanged(tmp_path):
    config = load_config(None, [POOL, "name=x", "train.clip_grad_norm=1", "train.eps=1e-9"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_run_config(tmp_path / "config.yaml") == config


def test_differences_are_listed_with_both_values():
    old, new = load_config(None, [POOL]), load_config(None, [POOL, "seed=4", "train.beta1=0.8"])
    assert differences(old, new) == {"seed": (0, 4), "train.beta1": (0.9, 0.8)}
    assert differences(old, old) == {}


def test_a_run_goes_on_only_with_what_decides_what_it_is():
    old = load_config(None, [POOL])
    new = load_config(
        None,
        [POOL, "seed=4", "select.keep_fraction=0.3", "hardware.workers=9", "track.wandb=offline",
         "score.batch_size=7", "runs_dir=/elsewhere", "evaluate.batch_size=3"],
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        refuse_changed(old, new)
    message = str(caught.value)
    assert "  seed: 0 -> 4\n" in message
    assert "  select.keep_fraction: [0.2, 0.27, 0.33, 0.4] -> [0.3]\n" in message
    for free in ("workers", "wandb", "batch_size", "runs_dir"):
        assert free not in message
    refuse_changed(old, dataclasses.replace(new, seed=0, select=old.select))


def test_every_config_is_a_run_directory_of_its_own():
    assert load_config(None, [POOL, "runs_dir=/r", "name=n"]).run_dir == Path("/r/n")
    assert isinstance(load_config(None, [POOL]), Config)
