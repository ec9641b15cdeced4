"""An index that is damaged, or of another selffilter's making, is refused with the way out."""

import re

import numpy as np
import pytest

from selffilter.errors import UserError
from selffilter.pool import index_files
from selffilter.pool.index import Pool, build_index


@pytest.fixture
def pool_of(tiny_pool, tmp_path):
    """Return what opens the pool anew from the disk."""

    def open_again():
        index_files.open_shard.cache_clear()
        index_files.places_of.cache_clear()
        return Pool.latest(tiny_pool.index_dir)

    return open_again


def again(pool, tmp_path, said=None):
    return build_index(
        [str(tmp_path / "pool")], pool.index_dir, say=(said if said is not None else []).append
    )


def write_anew(path, table):
    path.unlink()  # what is mapped stays what it was
    index_files.write_arrow(table, path)


def test_an_index_of_an_older_layout_is_refused_and_indexed_again(tiny_pool, pool_of, tmp_path):
    path = index_files.version_file(tiny_pool.index_dir, tiny_pool.version)
    old = index_files.read_arrow(path, index_files.SHARD_SCHEMA).drop_columns(["location"])
    write_anew(path, old.append_column("path", old["relative"]))
    with pytest.raises(UserError, match=r"no column location.*another version.*pool index"):
        pool_of()
    said = []
    assert again(tiny_pool, tmp_path, said) == tiny_pool.version
    assert "afresh" in " ".join(said)
    assert pool_of().rows == 8


@pytest.mark.parametrize("which", ["version", "defects"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2]])
def test_a_damaged_version_is_refused_and_written_anew(which, damage, tiny_pool, pool_of, tmp_path):
    of = {"version": index_files.version_file, "defects": index_files.defects_file}[which]
    path = of(tiny_pool.index_dir, tiny_pool.version)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(data))
    with pytest.raises(UserError, match=re.escape(f"{path}: ") + ".*remove this file and index"):
        pool_of()
    assert again(tiny_pool, tmp_path) == tiny_pool.version
    assert path.read_bytes() == data


def test_damaged_rows_are_refused_and_removed_they_are_scanned_again(tiny_pool, pool_of, tmp_path):
    path = index_files.rows_file(tiny_pool.index_dir, tiny_pool.fingerprint(0))
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-200])
    refused = re.escape(f"{path}: ") + ".*remove this file and index"
    with pytest.raises(UserError, match=refused):
        pool_of().shard_uids(0)
    with pytest.raises(UserError, match=refused):
        again(tiny_pool, tmp_path)
    path.unlink()
    assert again(tiny_pool, tmp_path) == tiny_pool.version
    assert path.read_bytes() == data


def columns(table, **changes):
    for name, values in changes.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [values])
    return table


def test_lengths_that_a_file_does_not_have_never_reach_a_reader(tiny_pool, pool_of):
    """A text's end beyond the file's would end the process when it is first looked at."""
    path = index_files.rows_file(tiny_pool.index_dir, tiny_pool.fingerprint(0))
    data = path.read_bytes()
    ends = np.array([0, 4, 8, 12, 16], np.int32).tobytes()
    assert data.count(ends) == 1
    path.unlink()
    path.write_bytes(data.replace(ends, np.array([0, 4, 8, 12, 2**31 - 1], np.int32).tobytes()))
    with pytest.raises(UserError, match="damaged"):
        pool_of().shard_table(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_offset": [-5, 0, 0, 0]},
        {"image_size": [2**63 - 1, 1, 1, 1]},
        {"caption_offset": [2**63 - 1, 0, 0, 0]},
    ],
)
def test_places_that_no_tar_has_are_refused(changes, tiny_pool, pool_of):
    path = index_files.rows_file(tiny_pool.index_dir, tiny_pool.fingerprint(0))
    write_anew(path, columns(index_files.read_arrow(path), **changes))
    with pytest.raises(UserError, match=r"places of .* that no tar can have"):
        pool_of().places(0)


def test_another_shards_rows_are_refused(tiny_pool, pool_of):
    first, second = (
        index_files.rows_file(tiny_pool.index_dir, tiny_pool.fingerprint(i)) for i in (0, 1)
    )
    data = second.read_bytes()
    first.unlink()
    first.write_bytes(data)
    for use in (lambda pool: pool.shard_uids(0), lambda pool: pool.places(0)):
        with pytest.raises(UserError, match="1 rows instead of 4"):
            use(pool_of())


@pytest.mark.parametrize("rows", [[-1, 4, 3], [2**62, 2**62, 1]])
def test_numbers_of_rows_that_cannot_be_are_refused(rows, tiny_pool, pool_of):
    path = index_files.version_file(tiny_pool.index_dir, tiny_pool.version)
    write_anew(path, columns(index_files.read_arrow(path, index_files.SHARD_SCHEMA), rows=rows))
    with pytest.raises(UserError, match="numbers of rows that no shard can have"):
        pool_of()


@pytest.mark.parametrize("name", ["../../../etc/passwd", "", "\xff", "x" * 1000])
def test_a_name_that_is_no_versions_opens_nothing(name, tiny_pool, pool_of, tmp_path):
    (tiny_pool.index_dir / "versions" / "latest").write_bytes(name.encode("latin-1"))
    with pytest.raises(UserError, match="is no name of a version"):
        pool_of()
    assert again(tiny_pool, tmp_path) == tiny_pool.version
    assert pool_of().rows == 8
