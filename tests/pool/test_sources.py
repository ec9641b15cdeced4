import fsspec
import pytest

from selffilter.errors import StoreGone, UserError
from selffilter.pool.sources import list_shards, source_name
from selffilter.pool.stores.find import Stores


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


def test_a_pattern_that_the_shell_has_made_a_list_of_is_recognised(pools):
    tars = [f"{pools}/a/{i:05d}.tar" for i in range(2)]
    with pytest.raises(UserError, match=r"a/00000\.tar and .*a/00001\.tar are shards of one sourc"):
        list_shards(tars)
    with pytest.raises(UserError, match="quote it"):
        list_shards([f"web=https://host/{i}.tar" for i in range(2)])


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


# --- on servers -------------------------------------------------------------------------------


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    for name in ("one/00000.tar", "one/00001.tar", "one/x.json", "two/00000.tar",
                 "two/deep/00000.tar"):  # fmt: skip
        files.pipe(f"/bucket/{name}", b"")
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_folders_globs_and_braces_on_a_server_are_as_on_a_disk(bucket):
    assert relative([f"{bucket}/one"]) == ["one:00000.tar", "one:00001.tar"]
    assert relative([f"{bucket}/one/"]) == relative([f"{bucket}/one"])
    assert relative([f"{bucket}/one/*1.tar"]) == ["one:00001.tar"]
    assert relative([f"{bucket}/one/{{00001..00001}}.tar"]) == ["one:00001.tar"]
    assert relative([f"{bucket}/two/**/*.tar"]) == ["two:00000.tar", "two:deep/00000.tar"]
    assert relative([f"{bucket}/{{one,two}}/00000.tar"]) == [
        "bucket:one/00000.tar",
        "bucket:two/00000.tar",
    ]
    assert relative([f"{bucket}/one/00001.tar"]) == ["one:00001.tar"]


def test_a_location_on_a_server_is_an_address_that_its_store_reads(bucket):
    for shard in list_shards([f"{bucket}/one/00000.tar", f"b={bucket}/two"]):
        assert Stores().of(shard.location).stat(shard.location).size == 0


def test_an_empty_folder_on_a_server_is_refused(bucket):
    with pytest.raises(UserError, match=r"no \.tar found at 'memory://bucket/none'"):
        list_shards([f"{bucket}/none"])


def test_a_web_server_is_asked_for_the_names_that_braces_give():
    (first, second) = list_shards(["https://a.org/data/{000..001}.tar?token=x"])
    assert (first.source, first.relative) == ("data", "000.tar")
    assert second.location == "https://a.org/data/001.tar?token=x"


@pytest.mark.parametrize("spec", ["https://a.org/data", "https://a.org/data/*.tar"])
def test_a_web_server_cannot_be_listed_and_the_error_says_what_can_be_done(spec):
    with pytest.raises(
        UserError, match=r"cannot be listed.*https://a\.org/data/\{00000\.\.00099\}"
    ):
        list_shards([spec])


def test_a_page_on_the_hub_is_listed_by_the_hubs_own_file_system():
    page = "https://huggingface.co/datasets/someone/pairs"
    assert source_name(page) == "pairs"
    assert source_name(f"{page}/tree/main/train") == "train"
    assert source_name(f"{page}/resolve/main/x/{{0..3}}.tar") == "x"
    found = list_shards([f"{page}/resolve/main/x/{{0..1}}.tar"])
    assert [shard.location for shard in found] == [f"{page}/resolve/main/x/{i}.tar" for i in (0, 1)]


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://b/a", r"pip install 'selffilter\[s3\]'"), ("gs://b/a", r"selffilter\[gcs\]")],
)
def test_a_package_that_is_missing_is_named(monkeypatch, url, said):
    def missing(*_, **__):
        raise ImportError("Install it")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(UserError, match=said):
        list_shards([url])


def test_a_protocol_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match="no file system is known for nope"):
        list_shards(["nope://a/b"])


def test_the_same_name_twice_in_a_source_is_refused():
    with pytest.raises(UserError, match=r"names 'x\.tar' twice"):
        list_shards(["https://a.org/d/x.tar?sig={1,2}"])


def test_braces_that_do_not_match_are_a_users_error(pools):
    with pytest.raises(UserError, match="braces that do not match"):
        list_shards([f"{pools}/a/{{0..1}}}}.tar"])


# --- pipes ------------------------------------------------------------------------------------


def test_a_pipe_is_refused_with_what_it_would_do_until_it_is_allowed():
    with pytest.raises(UserError, match=r"'pipe:cat \{a,b\}\.tar' would run a shell command"):
        list_shards(["pipe:cat {a,b}.tar"])
    assert [(s.source, s.relative, s.location) for s in list_shards(
        ["pipe:cat {a,b}.tar | tee x=1", "mine=pipe:cat c.tar"], allow_pipe=True
    )] == [
        ("pipe", "cat a.tar | tee x=1", "pipe:cat a.tar | tee x=1"),
        ("pipe", "cat b.tar | tee x=1", "pipe:cat b.tar | tee x=1"),
        ("mine", "cat c.tar", "pipe:cat c.tar"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (ConnectionError("refused"), StoreGone, "memory://bucket/one cannot be listed: .*refused"),
        (PermissionError("no key"), UserError, "memory://bucket/one cannot be listed: .*no key"),
    ],
)
def test_a_server_that_cannot_be_listed_is_gone_or_a_users_matter(
    bucket, monkeypatch, fault, error, said
):
    def fails(*_, **__):
        raise fault

    monkeypatch.setattr("selffilter.pool.sources.call", fails)
    monkeypatch.setattr("selffilter.patience.time.sleep", lambda _: None)
    with pytest.raises(error, match=said):
        list_shards([f"{bucket}/one"])
