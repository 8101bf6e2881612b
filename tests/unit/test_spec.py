"""What may be asked for. A refused value names its field, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidSpec
from orchestrator.settings import Settings, load_settings
from orchestrator.spec import (
    TransferSpec,
    build_spec,
    destination_identity,
    dump_spec,
    file_host,
    load_spec,
    locations,
    on_shared_root,
)

HERE = load_settings(host="here")
HTTP, FILE, S3 = "https://h/a", "/data/b", "s3://bucket/key"


def build(settings: Settings = HERE, /, **values: Any) -> TransferSpec:
    return build_spec(settings, **{"source": HTTP, "destination": FILE, **values})[0]


def refused(settings: Settings = HERE, /, **values: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        build(settings, **values)
    assert caught.value.number == 102
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("size_bytes", -1, "greater than or equal to 0"),
        ("size_bytes", "8 potatoes", "a number of bytes"),
        ("size_bytes", 1.5, "integer"),
        ("part_size", 0, "greater than or equal to 1"),
        ("part_size", "-8MiB", "a number of bytes"),
        ("parts_in_flight", 0, "greater than or equal to 1"),
        ("parts_in_flight", 1025, "less than or equal to 1024"),
        ("priority", 10, "less than or equal to 9"),
        ("priority", -1, "greater than or equal to 0"),
        ("not_before", -1, "greater than or equal to 0"),
        ("not_before", float("inf"), "finite"),
        ("not_before", float("nan"), "finite"),
        ("tenant", "two words", "pattern"),
        ("tenant", "", "pattern"),
        ("pool", "a/b", "pattern"),
        ("on_exists", "maybe", "'fail'"),
        ("on_source_change", "ignore", "'restart'"),
        ("copy", "teleport", "'relay'"),
        ("preallocate", "some", "'sparse'"),
        ("checksum", "sha256:abc", "sha256 (64 digits)"),
        ("checksum", "crc32:00000000", "md5 (32 digits)"),
        ("checksum", "md5:" + "g" * 32, "algo:hex"),
        ("checksum", "d41d8cd98f00b204e9800998ecf8427e", "algo:hex"),
        ("method", "GET\r\nX: y", "one line"),
        ("method", "", "one line"),
        ("accept", "text/\x00", "one line"),
        ("user_agent", "ünïcode", "one line"),
        ("idempotency_key", "", "at least 1 character"),
        ("idempotency_key", "x" * 257, "at most 256"),
        ("reference", "x" * 257, "at most 256"),
    ],
)
def test_a_bad_option_names_field_value_and_what_is_allowed(field: str, value: object, allowed: str) -> None:
    """RC-22, RC-23: what a transfer may be asked for is checked when it is asked for."""
    error = refused(**{field: value})

    assert error.field == field
    assert repr(error.value) == repr(value)
    assert allowed in error.allowed


@pytest.mark.parametrize("field", ["sauce", "copy_mode", "password"])
def test_an_unknown_option_is_named_and_its_value_is_not_repeated(field: str) -> None:
    error = refused(**{field: "hunter2"})

    assert error.field == field
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("part_attempts", 0),
        ("prepare_attempts", 1001),
        ("elapsed_seconds", 0),
        ("elapsed_seconds", float("inf")),
        ("base_seconds", 61),
        ("cap_seconds", float("nan")),
        ("wait_seconds", 0),
        ("sauce", 1),
    ],
)
def test_a_bad_retry_budget_names_its_field(field: str, value: object) -> None:
    assert refused(retry={field: value}).field == f"retry.{field}"


def test_a_first_wait_longer_than_the_cap_is_refused() -> None:
    assert "at most cap_seconds" in refused(retry={"base_seconds": 2, "cap_seconds": 1}).allowed


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "secret\r\nX-B: y"},
        {"X A": "secret"},
        {"": "secret"},
        {"Range": "secret"},
        {"host": "secret"},
        {"IF-MATCH": "secret"},
        {"Content-Length": "secret"},
    ],
)
def test_a_bad_header_is_refused_without_repeating_its_value(headers: dict[str, str]) -> None:
    error = refused(headers=headers)

    assert error.field == "headers"
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("field", "url", "shown"),
    [
        ("source", "gopher://h/a", "gopher:"),
        ("destination", "nothing://h/a", "nothing:"),
        ("source", "https:///a", "https:///a"),
        ("source", "", ""),
        ("source", "relative/path", "relative/path"),
        ("destination", "/a/../b", "/a/../b"),
        ("destination", "s3://bucket", "s3://bucket"),
        ("source", "https://user:hunter2@h/a?sig=hunter2", "https://h/a"),
    ],
)
def test_a_bad_url_names_its_role_and_hides_what_is_secret(field: str, url: str, shown: str) -> None:
    error = refused(**{field: url})

    assert (error.field, error.value) == (field, shown)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(("missing", "given_"), [("source", "destination"), ("destination", "source")])
def test_both_ends_must_be_named(missing: str, given_: str) -> None:
    """RC-04, BN-02: refused before any I/O."""
    with pytest.raises(InvalidSpec) as caught:
        build_spec(HERE, **{given_: FILE})

    assert caught.value.field == missing


def test_a_transfer_onto_itself_is_refused_unless_another_profile_sees_another_place() -> None:
    assert "other than the source" in refused(source=S3, destination=S3).allowed
    assert "other than the source" in refused(source=FILE, destination="file://here/data/b").allowed
    assert build(source=S3, destination=S3, source_profile="a", destination_profile="b").source == S3


@pytest.mark.parametrize("value", [1, 5 * 2**20 - 1, 5 * 2**30 + 1])
def test_a_part_size_the_destination_refuses_is_refused_before_any_io(value: int) -> None:
    error = refused(destination=S3, part_size=value)

    assert (error.field, error.value) == ("part_size", value)
    assert error.allowed == "5242880 to 5368709120 bytes"


def test_a_part_size_that_gives_too_many_parts_is_refused_when_the_size_is_known() -> None:
    error = refused(destination=S3, part_size="5MiB", size_bytes="100GiB")

    assert (error.field, error.value) == ("part_size", 5 << 20)
    assert "at most 10000 parts" in error.allowed


def test_an_object_too_large_for_the_destination_is_refused_when_the_size_is_known() -> None:
    assert refused(destination="mem:x", size_bytes="17MiB").field == "size_bytes"


def test_a_server_side_copy_needs_one_store() -> None:
    assert refused(destination=S3, copy="server").field == "copy"
    assert build(source="s3://bucket/other", destination=S3, copy="server").copy_mode == "server"


# Hosts and roots


def test_a_plain_path_means_the_submitters_host() -> None:
    spec = build(source="/a b", destination="mem:x")

    assert spec.source == "file://here/a%20b"
    assert locations(spec)[0].host == "here"


def test_two_hosts_share_no_disk_unless_a_shared_root_says_so() -> None:
    pair = {"source": "file://one/data/a", "destination": "file://two/mnt/b"}

    assert refused(**pair).field == "destination"
    assert "HAULAGE_SHARED_ROOTS" in refused(**pair).allowed
    assert build(load_settings(host="here", shared_roots=("/mnt",)), **pair).destination == "file://two/mnt/b"


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/mnt", True), ("/mnt/a", True), ("/mnt//a", True), ("/mntx/a", False), ("/a/mnt", False), ("/", False)],
)
def test_a_root_holds_what_lies_below_it_and_not_its_namesakes(path: str, inside: bool) -> None:
    assert on_shared_root(path, load_settings(shared_roots=("/mnt/",))) is inside


def test_a_root_of_everything_holds_everything() -> None:
    assert on_shared_root("/a/b", load_settings(shared_roots=("/",)))


def test_only_files_off_the_shared_roots_belong_to_one_host() -> None:
    settings = load_settings(host="here", shared_roots=("/mnt",))
    _, own, shared = build_spec(settings, source="/a", destination="/mnt/b")
    _, web, there = build_spec(settings, source=HTTP, destination="file://there/b")

    assert [file_host(each, settings) for each in (own, shared, web, there)] == ["here", None, None, "there"]


@pytest.mark.parametrize("field", ["source", "destination"])
@pytest.mark.parametrize("path", ["/etc/passwd", "/data", "/data/inx/a"])
def test_paths_outside_the_roots_are_refused(field: str, path: str) -> None:
    settings = load_settings(host="here", roots=("/data/in", "/data/out"))
    other = {"source": "/data/in/a", "destination": "/data/out/b"}

    error = refused(settings, **{**other, field: path})

    assert error.field == field
    assert "/data/in, /data/out (HAULAGE_ROOTS)" in error.allowed
    assert build(settings, **other).source == "file://here/data/in/a"


# What a spec is


@pytest.mark.parametrize(
    ("source", "destination", "direction"),
    [
        (FILE, S3, "upload"),
        ("mem:x", S3, "upload"),
        (FILE, "/data/c", "upload"),
        (HTTP, FILE, "download"),
        (S3, "mem:x", "download"),
        (HTTP, S3, "copy"),
        ("S3://bucket/other", S3, "copy"),
    ],
)
def test_the_direction_follows_from_both_ends(source: str, destination: str, direction: str) -> None:
    assert build(source=source, destination=destination).direction == direction


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("8MiB", 8 << 20), ("8M", 8 << 20), ("8 mb", 8 << 20), (" 1T ", 1 << 40), ("3b", 3)],
)
def test_sizes_may_carry_a_unit(text: str, size: int) -> None:
    assert build(size_bytes=text).size_bytes == size


def test_a_checksum_is_written_in_one_way() -> None:
    assert build(checksum="MD5:" + "AB" * 16).checksum == "md5:" + "ab" * 16


def test_the_same_object_through_the_same_profile_is_one_destination() -> None:
    def identity(url: str, profile: str | None = None) -> str:
        spec, _, place = build_spec(HERE, source=HTTP, destination=url, destination_profile=profile)
        return destination_identity(spec, place)

    assert identity("/data/b") == identity("file:///data/b") == identity("file://here/data/b")
    assert identity("https://h/x?sig=1") == identity("https://H/x?sig=2")
    assert identity(S3) != identity(S3, "other") != identity("s3://bucket/key2", "other")
    assert len(identity(S3)) == 32


def test_neither_urls_nor_headers_show_in_a_repr() -> None:
    spec = build(source="https://h/a?sig=hunter2", headers={"Authorization": "hunter2"})

    assert "hunter2" not in repr(spec)
    assert "hunter2" not in str(spec)


def test_headers_and_known_size_reach_only_the_end_they_are_meant_for() -> None:
    spec = build(headers={"X-A": "1"}, size_bytes=10, accept="text/plain")

    assert dict(spec.options("source", "s0-1").headers) == {"X-A": "1"}
    assert dict(spec.options("destination", "s0-1").headers) == {}
    assert (spec.options("source", "s0-1").size_bytes, spec.options("destination", "s0-1").size_bytes) == (10, None)


specs = st.fixed_dictionaries(
    {},
    optional={
        "on_exists": st.sampled_from(["fail", "skip", "overwrite"]),
        "checksum": st.binary(min_size=32, max_size=32).map(lambda each: "sha256:" + each.hex()),
        "headers": st.dictionaries(st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True), st.just("ü v"), max_size=3),
        "size_bytes": st.integers(0, 1 << 50),
        "retry": st.fixed_dictionaries({}, optional={"part_attempts": st.integers(1, 1000)}),
        "parts_in_flight": st.integers(1, 1024),
        "copy": st.sampled_from(["auto", "relay"]),
        "keep_partial": st.booleans(),
        "reference": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        "priority": st.integers(0, 9),
        "not_before": st.floats(0, 1e12),
        "tenant": st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    },
)


@given(specs)
def test_a_spec_read_back_is_the_same_and_writing_it_again_gives_the_same_text(values: dict[str, Any]) -> None:
    spec = build(**values)

    text = dump_spec(spec)

    assert load_spec(text) == spec
    assert dump_spec(load_spec(text)) == text


def test_a_stored_spec_holds_no_defaults() -> None:
    assert dump_spec(build()) == '{"source":"https://h/a","destination":"file://here/data/b"}'


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"source":"/a","destination":"/b","warp":9}', "\x00"])
def test_a_stored_spec_this_version_does_not_understand_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        load_spec(text)
