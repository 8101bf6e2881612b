"""URLs: which are taken, what they mean, which are refused and how, and what of them may be shown."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import MIB
from providers.errors import InvalidValue, UnknownScheme
from providers.schemes import Role, parse, redact, schemes


def test_the_table_has_a_row_for_each_built_in_scheme() -> None:
    assert set(schemes()) >= {"file", "mem", "http", "https", "s3", "azblob"}
    for name, row in schemes().items():
        assert row.name == name
        assert row.roles <= {"source", "destination"}
    assert schemes()["s3"].limits.min_part_bytes == 5 * MIB
    assert schemes()["http"].limits.max_parts == 1


@pytest.mark.parametrize(
    ("url", "host", "key"),
    [
        ("/a/b c", "here", "/a/b c"),
        ("/a/b%20c", "here", "/a/b%20c"),
        ("/a/b?c#d", "here", "/a/b?c#d"),
        ("/a/x:y", "here", "/a/x:y"),
        ("file:///a/b%20c", "here", "/a/b c"),
        ("FILE:///a", "here", "/a"),
        ("file://localhost/a", "here", "/a"),
        ("file://there/a/b%3Fc", "there", "/a/b?c"),
        ("/文件/é", "here", "/文件/é"),
    ],
)
def test_a_local_path_names_its_host_and_its_path(url: str, host: str, key: str) -> None:
    location = parse(url, "source", local_host="here")

    assert (location.scheme.name, location.host, location.key) == ("file", host, key)
    again = parse(location.url, "source", local_host="elsewhere")
    assert (again.host, again.key, again.identity) == (host, key, location.identity)


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://bucket/key", "bucket", "key"),
        ("s3://bucket/a/b/../c", "bucket", "a/b/../c"),
        ("s3://bucket/a%20b?c#d", "bucket", "a%20b?c#d"),
        ("s3://bucket//a/", "bucket", "/a/"),
        ("S3://bucket/文件", "bucket", "文件"),
        ("azblob://container/a b%20c?d", "container", "a b%20c?d"),
    ],
)
def test_a_bucket_url_keeps_its_key_as_it_is_written(url: str, bucket: str, key: str) -> None:
    location = parse(url, "destination")

    assert (location.bucket, location.key) == (bucket, key)


def test_a_name_in_memory_and_a_web_address() -> None:
    assert parse("mem:a/b", "source").key == "a/b"
    location = parse("https://Example.com:8443/a/b?signature=SECRET", "source")
    assert (location.host, location.key) == ("example.com:8443", "/a/b")
    assert location.url.endswith("SECRET")


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("", "source"),
        ("   ", "source"),
        ("relative/path", "source"),
        ("file:relative", "source"),
        ("/a/../b", "destination"),
        ("file:///a/%2e%2e/b", "destination"),
        ("file:///a%00b", "source"),
        ("file:///a?b", "source"),
        ("/a\nb", "source"),
        ("http:///path", "source"),
        ("http://host:99999/", "source"),
        ("http://user:password@host/", "source"),
        ("s3:bucket/key", "source"),
        ("s3://bucket", "source"),
        ("s3:///key", "source"),
        ("s3://AK:SK@bucket/key", "source"),
        ("s3://bucket/" + "k" * 1025, "source"),
        ("mem:", "source"),
        ("mem:" + "n" * 513, "source"),
    ],
)
def test_bad_urls_are_refused_with_the_field_and_what_is_allowed(url: str, role: Role) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse(url, role)

    assert raised.value.field == role
    assert raised.value.allowed
    assert "password" not in str(raised.value.value)
    assert "SK" not in str(raised.value.value)


@pytest.mark.parametrize("url", ["ftp://host/a", "gopher:x", "s4://bucket/key?X-Amz-Signature=SECRET"])
def test_an_unknown_scheme_names_those_that_are_known(url: str) -> None:
    with pytest.raises(UnknownScheme) as raised:
        parse(url, "destination", field_name="to")

    assert raised.value.field == "to"
    assert "file, http, https, mem, oss, s3" in raised.value.allowed
    assert "SECRET" not in str(raised.value)


def test_equal_destinations_have_equal_identities_whatever_their_query() -> None:
    def identity(url: str) -> str:
        return parse(url, "destination", local_host="h").identity

    assert identity("https://host/a?sig=1") == identity("https://HOST/a?sig=2")
    assert identity("/a/b") == identity("file://h/a/b")
    different = [
        "https://host/a",
        "http://host/a",
        "https://host/b",
        "/a",
        "file://other/a",
        "mem:a",
        "s3://a/b",
        "s3://b/b",
    ]
    assert len({identity(url) for url in different}) == len(different)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused_in_one_way(text: str) -> None:
    with suppress(InvalidValue):
        assert parse(text, "source").shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:1/a?sig=SECRET#frag", "https://host:1/a"),
        ("/a/b", "/a/b"),
        ("mem:name", "mem:name"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("https://[broken", "(not a URL)"),
    ],
)
def test_what_is_shown_of_a_url_holds_no_secret(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_location_shows_no_query() -> None:
    location = parse("https://host/a?sig=SECRET", "source")

    assert "SECRET" not in repr(location)
    assert location.shown == "https://host/a"
