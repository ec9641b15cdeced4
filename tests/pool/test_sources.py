import pytest

from selffilter.errors import UserError
from selffilter.pool.sources import list_shards


@pytest.fixture
def pools(tmp_path):
    for name in ("a/00002.tar", "a/00000.tar", "a/00010.tar", "a/x.parquet", "b/00000.tar",
                 "b/deep/00001.tar"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def relative(specs):
    return [f"{shard.source}:{shard.relative}" for shard in list_shards(specs)]


def test_a_folder_is_its_tars_in_the_order_of_their_names(pools):
    assert relative([f"{pools}/a"]) == ["a:00000.tar", "a:00002.tar", "a:00010.tar"]
    assert relative([f"{pools}/a/"]) == relative([f"{pools}/a"])


def test_a_glob_a_brace_pattern_and_a_single_tar(pools):
    assert relative([f"{pools}/a/0001*.tar"]) == ["a:00010.tar"]
    assert relative([f"{pools}/a/{{00000,00002}}.tar"]) == ["a:00000.tar", "a:00002.tar"]
    assert relative([f"{pools}/b/{{00000..00000}}.tar"]) == ["b:00000.tar"]
    assert relative([f"{pools}/a/00002.tar"]) == ["a:00002.tar"]
    assert relative([f"{pools}/b/**/*.tar"]) == ["b:00000.tar", "b:deep/00001.tar"]


def test_sources_come_in_the_order_given_and_may_be_named(pools):
    assert relative([f"mine={pools}/b", f"{pools}/a/00000.tar"]) == [
        "mine:00000.tar",
        "a:00000.tar",
    ]


def test_shards_of_one_name_in_two_sources_are_told_apart(pools):
    first, *_, second = list_shards([f"{pools}/a", f"{pools}/b"])
    assert first.relative == second.relative == "00000.tar"
    assert (first.source, second.source) == ("a", "b")


def test_a_pattern_over_folders_names_shards_by_their_path_below_it(pools):
    found = list_shards([f"{pools}/{{a,b}}/00000.tar"])
    assert [shard.relative for shard in found] == ["a/00000.tar", "b/00000.tar"]
    assert {shard.source for shard in found} == {pools.name}


def test_two_sources_of_one_name_are_refused(pools, tmp_path):
    other = tmp_path / "elsewhere" / "a"
    other.mkdir(parents=True)
    (other / "00000.tar").touch()
    with pytest.raises(UserError, match=r"two sources are called 'a'.*first=.*,second="):
        list_shards([f"{pools}/a", str(other)])
    with pytest.raises(UserError, match="two sources are called 'x'"):
        list_shards([f"x={pools}/a", f"x={pools}/b"])
    assert len(list_shards([f"{pools}/a", f"other={other}"])) == 4


@pytest.mark.parametrize("spec", ["nowhere", "a/*.zip", "a/9*.tar", "a/{00000,00001}.tar"])
def test_a_source_without_tars_is_refused_by_what_was_written(pools, spec):
    with pytest.raises(UserError, match=r"^pool\.shards: (no \.tar found at|there is no)"):
        list_shards([f"{pools}/{spec}"])


def test_a_name_from_a_pool_is_never_a_command(pools):
    for spec in (f"pipe:touch {pools}/ran", f"x=pipe:touch {pools}/ran"):
        with pytest.raises(UserError):
            list_shards([spec])
    assert not (pools / "ran").exists()
