import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.tar_headers import BrokenTarError, iterate_members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
OTHERS = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]

PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
NAME = st.one_of(
    st.lists(PART, min_size=1, max_size=4).map("/".join),
    st.builds(lambda part, times: "/".join([part] * times) + ".jpg", PART, st.integers(1, 80)),
    st.sampled_from(["/absolute.jpg", "../up.jpg", "./here.jpg", "a.b.jpg", "k" * 100, "k" * 101]),
    st.binary(min_size=1, max_size=150).map(
        lambda raw: (
            raw.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape") or "x"
        )
    ),
)
ENTRY = st.tuples(NAME, st.one_of(st.binary(max_size=1500), st.sampled_from(OTHERS)))


def tar_of(entries, tar_format):
    """Write what fits into the format; return the bytes of the tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        for name, what in entries:
            info = tarfile.TarInfo(name)
            if what in OTHERS:
                info.type, info.linkname = what, "elsewhere"
            else:
                info.size = len(what)
            try:
                tar.addfile(info, io.BytesIO(b"" if what in OTHERS else what))
            except (ValueError, UnicodeError):  # a name that the format cannot hold
                continue
    return out.getvalue()


class Forward(io.BytesIO):
    """What a pipe gives: there is no way back, and nothing is behind the end."""

    def seek(self, offset, whence=0):
        assert whence == 0
        assert offset >= self.tell()
        return super().seek(min(offset, len(self.getbuffer())))


def by_tarfile(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isreg() and not m.issparse()]


def members(data, size=None):
    return [m[:3] for m in iterate_members(io.BytesIO(data), len(data) if size is None else size)]


@given(st.lists(ENTRY, max_size=8), st.sampled_from(FORMATS))
def test_the_members_are_those_that_tarfile_finds(entries, tar_format):
    data = tar_of(entries, tar_format)
    assert members(data) == by_tarfile(data)


@given(st.lists(ENTRY, max_size=5), st.sampled_from(FORMATS))
def test_what_cannot_go_back_and_has_no_size_is_read_alike(entries, tar_format):
    data = tar_of(entries, tar_format)
    found = list(iterate_members(Forward(data), None, lambda name, size: size % 2 == 0))
    assert [m[:3] for m in found] == by_tarfile(data)
    for _, offset, size, read in found:
        assert read == (data[offset : offset + size] if size % 2 == 0 else None)


@given(st.lists(ENTRY, max_size=4), st.sampled_from(FORMATS), st.data())
def test_a_tar_with_any_bytes_changed_gives_members_or_says_what_is_wrong(entries, form, data):
    tar = bytearray(tar_of(entries, form))
    for _ in range(data.draw(st.integers(1, 5))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = members(bytes(tar))
    except BrokenTarError:
        return
    assert all(offset >= 0 and offset + size <= len(tar) for _, offset, size in found)


@given(st.lists(ENTRY, min_size=1, max_size=4), st.sampled_from(FORMATS), st.data())
def test_a_cut_shows_and_what_is_before_it_is_found(entries, form, data):
    tar = tar_of(entries, form)
    whole = by_tarfile(tar)
    end = max((offset + size for _, offset, size in whole), default=0)
    cut = data.draw(st.integers(0, max(0, end - 1)))
    for size in (cut, None):
        found = []
        with pytest.raises(BrokenTarError):
            for member in iterate_members(Forward(tar[:cut]), size):
                found.append(member[:3])
        assert found == [m for m in whole if m[1] + m[2] <= cut][: len(found)]
        assert len(found) >= sum((m[1] + m[2] + 511) // 512 * 512 <= cut for m in whole)


def test_numbers_of_more_than_eight_gigabytes_are_read():
    info = tarfile.TarInfo("large.jpg")
    info.size = 9 << 30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = info.tobuf(form)
        (found,) = take(header, 10 << 30)
        assert found == ("large.jpg", len(header), 9 << 30)


def take(data, size):
    """Return the members before a break."""
    found = []
    with pytest.raises(BrokenTarError):
        for member in iterate_members(io.BytesIO(data), size):
            found.append(member[:3])
    return found


def test_sparse_files_are_passed_over():
    sparse = tarfile.TarInfo("sparse.jpg")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 700
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # a further block of its map follows
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    data = bytes(header) + bytes(512) + b"d" * 1024 + tar_of([("a.jpg", b"x")], FORMATS[1])
    assert members(data) == [("a.jpg", 512 * 5, 1)]
    by_pax = tarfile.TarInfo("GNUSparseFile.0/b.jpg")
    by_pax.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    data = by_pax.tobuf(tarfile.PAX_FORMAT) + tar_of([("a.jpg", b"x")], FORMATS[1])
    assert [name for name, _, _ in members(data)] == ["a.jpg"]


def test_pax_records_for_all_members_hold_until_a_member_has_its_own():
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out,
        mode="w",
        format=tarfile.PAX_FORMAT,
        pax_headers={"comment": "c", "path": "all"},
    ) as tar:
        tar.addfile(tarfile.TarInfo("one"))
        tar.addfile(tarfile.TarInfo("n" * 200))
    assert [name for name, _, _ in members(out.getvalue())] == ["all", "n" * 200]


@pytest.mark.parametrize("size", [(2 << 20), -5])
def test_an_extended_header_of_an_absurd_size_is_not_read(size):
    long = tarfile.TarInfo("././@LongLink")
    long.type = tarfile.GNUTYPE_LONGNAME
    long.size = size
    with pytest.raises(BrokenTarError, match=f"an extended header of {size} bytes"):
        members(long.tobuf(tarfile.GNU_FORMAT), size=10 << 20)


def test_a_member_of_negative_size_is_refused():
    info = tarfile.TarInfo("a.jpg")
    info.size = -1
    with pytest.raises(BrokenTarError, match="a member of -1 bytes at byte 0"):
        members(info.tobuf(tarfile.GNU_FORMAT))


def test_a_checksum_of_signed_bytes_counts_too():
    info = tarfile.TarInfo("é.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    signed = sum(header[:148]) + sum(header[156:]) + 256 - 256 * sum(b > 127 for b in header)
    header[148:155] = b"%06o\0" % signed
    assert [name for name, _, _ in members(bytes(header) + bytes(1024))] == ["é.jpg"]
    header[148:155] = b"%06o\0" % (signed + 1)
    with pytest.raises(BrokenTarError, match="no member and no end at byte 0"):
        members(bytes(header) + bytes(1024))
