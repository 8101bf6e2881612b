"""Temporary names and upload ids of local files, for any name there is."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import UploadId
from providers.errors import InvalidValue, UploadNotFound
from providers.local_paths import NAME_BYTES, LocalPath, temp_name, temp_token
from providers.local_upload import LocalUpload

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=255).filter(
    lambda name: len(name.encode()) <= NAME_BYTES and name not in (".", "..")
)


@given(NAMES, st.text(max_size=50))
def test_a_temporary_name_is_one_hidden_name_that_every_file_system_takes(name: str, transfer_id: str) -> None:
    temp = temp_name(name, temp_token(name, transfer_id))

    assert temp.startswith(".")
    assert temp.endswith(".haulage")
    assert "/" not in temp
    assert len(os.fsencode(temp)) <= NAME_BYTES
    assert temp != name


def test_long_names_with_a_common_beginning_have_temporary_names_of_their_own() -> None:
    one, two = "n" * 254 + "1", "n" * 254 + "2"

    assert temp_name(one, temp_token(one, "t")) != temp_name(two, temp_token(two, "t"))
    assert temp_token(one, "t") == temp_token(one, "t")
    assert temp_token(one, "t") != temp_token(one, "u")


@given(
    st.builds(
        LocalUpload,
        token=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
        size_bytes=st.none() | st.integers(0, 1 << 62),
        inode=st.integers(0, 2**64 - 1),
        generation=st.integers(0, 2**32 - 1),
        device=st.integers(0, 2**64 - 1),
        boot=st.uuids().map(str) | st.just(""),
    )
)
def test_an_upload_id_reads_back_what_was_written(upload: LocalUpload) -> None:
    assert LocalUpload.decode(upload.encode()) == upload
    assert len(upload.encode()) < 1024


@given(st.text(max_size=60))
def test_any_other_text_is_no_upload(text: str) -> None:
    with pytest.raises(UploadNotFound):
        LocalUpload.decode(UploadId(text))


@pytest.mark.parametrize(
    ("path", "roots", "name"),
    [
        ("/data/a/b", ("/data",), "b"),
        ("/data/a//./b", ("/data/",), "b"),
        ("/data/b", ("/", "/data"), "b"),
        ("/b", ("/",), "b"),
        ("/b", (), "b"),
    ],
)
def test_a_path_is_found_below_its_root(path: str, roots: tuple[str, ...], name: str) -> None:
    assert LocalPath(path, roots, "source").name == name


@pytest.mark.parametrize(
    ("path", "roots"),
    [
        ("/database/a", ("/data",)),
        ("/data", ("/data",)),
        ("/etc/passwd", ("/data", "/srv")),
        ("/data/../etc/passwd", ("/data",)),
        ("/data/a/..", ()),
        ("data/a", ()),
        ("", ()),
        ("/", ()),
        ("/a/", ()),
        ("/a/.", ()),
        ("/a\0b", ()),
        ("/\ud800", ()),
    ],
)
def test_other_paths_are_refused_with_the_field(path: str, roots: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue) as raised:
        LocalPath(path, roots, "destination")

    assert (raised.value.field, raised.value.value) == ("destination", path)
