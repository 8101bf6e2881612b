"""Presigned plans: what is refused before a byte moves, what survives JSON, and that no signature is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planned import name_of
from providers.errors import InvalidValue
from providers.plans import PresignedDownload, PresignedUpload, sent_headers

SECRET = "c4n4ry"
CHUNK = 10


def part(index: int, size: int = CHUNK, **more: Any) -> dict[str, Any]:
    url = f"https://store.test/bucket/key?partNumber={index + 1}&sig={SECRET}"
    return {"part_number": index + 1, "offset": index * CHUNK, "size": size, "url": url, **more}


def plan(**changes: Any) -> PresignedUpload:
    three = [part(0), part(1), part(2, 5)]
    return PresignedUpload(**{"total_size": 25, "chunk_size": CHUNK, "parts": three, **changes})


REQUEST = {"url": f"https://store.test/bucket/key?uploadId=1&sig={SECRET}"}
REFUSED = [
    ({"chunk_size": 0}, "chunk_size"),
    ({"parts": []}, "parts"),
    ({"parts": [part(0), part(1, 0), part(2, 5)]}, "parts[1].size"),
    ({"parts": [part(0), part(1), part(2, 6)]}, "parts[2].size"),
    ({"parts": [part(0), part(1), part(2, 2**63)]}, "parts[2].size"),
    ({"parts": [part(0), part(0) | {"part_number": 2}, part(2, 5)]}, "parts[1].offset"),
    ({"parts": [part(0), part(2, 5)]}, "parts[1].offset"),
    ({"parts": [part(0), part(1) | {"offset": 9}, part(2, 5)]}, "parts[1].offset"),
    ({"parts": [part(0), part(1, 9), part(2, 5)]}, "parts[1].size"),
    ({"parts": [part(1), part(0), part(2, 5)]}, "parts[0].offset"),
    ({"parts": [part(0), part(1)]}, "parts"),
    ({"parts": [part(0), part(1), part(2, 5), part(2, 5)]}, "parts[3].offset"),
    ({"parts": [part(0), part(1, part_number=1), part(2, 5)]}, "parts[1].part_number"),
    ({"parts": [part(0), part(1, part_number=7), part(2, 5)]}, "parts[2].part_number"),
    ({"parts": [part(0, url=f"ftp://h/{SECRET}"), part(1), part(2, 5)]}, "parts[0].url"),
    ({"parts": [part(0, url=f"https://u:{SECRET}@h/"), part(1), part(2, 5)]}, "parts[0].url"),
    ({"parts": [part(0, url=f"https://h/a b{SECRET}"), part(1), part(2, 5)]}, "parts[0].url"),
    ({"parts": [part(0, headers={"X": f"a\r\n{SECRET}"}), part(1), part(2, 5)]}, "parts[0].headers"),
    ({"parts": [part(0, headers={"Transfer-Encoding": "chunked"}), part(1), part(2, 5)]}, "parts[0].headers"),
    ({"parts": [part(0, headers={"content-length": "11"}), part(1), part(2, 5)]}, "parts[0].headers"),
    ({"parts": [part(0, headers={"Host": "other.test"}), part(1), part(2, 5)]}, "parts[0].headers"),
    ({"parts": [part(0, method="P T"), part(1), part(2, 5)]}, "parts[0].method"),
    ({"complete_request": {"url": f"x:{SECRET}"}}, "complete_request.url"),
    ({"complete_body_builder": "s3"}, "complete_body_builder"),
    ({"signer": {}}, "signer"),
    ({"signer": {"name": "a", "url": "https://h/"}}, "signer"),
    ({"parts": [], "signer": {"name": "a"}}, "target"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=[f"{n}-{each[1]}" for n, each in enumerate(REFUSED)])
def test_a_plan_that_would_not_make_the_object_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    """RC-92, and what the seed found too late: gaps, order, coverage."""
    with pytest.raises(InvalidValue) as raised:
        plan(**changes).check()

    assert raised.value.field == field
    assert raised.value.allowed
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parts": [part(0), part(1, part_number=7), part(2, 5, part_number=9)]},
        {"parts": [part(0)], "signer": {"name": "mine"}},
        {"parts": [], "target": "https://h/key", "signer": {"url": "https://app.test/sign"}},
        {"total_size": 0, "parts": [], "target": "https://h/key"},
        {"total_size": 0, "parts": [part(0, 0)]},
        {"parts": [part(0, headers={"Host": "STORE.test", "Content-Length": "10"}), part(1), part(2, 5)]},
        {"complete_request": REQUEST, "complete_body_builder": "s3", "abort_request": REQUEST | {"method": "DELETE"}},
    ],
)
def test_a_good_plan_is_taken_and_survives_json(changes: dict[str, Any]) -> None:
    """RC-90, RC-91."""
    made = plan(**changes).check()

    assert PresignedUpload.from_json(made.to_json()) == made
    assert SECRET not in f"{made!r} {made} {made.complete_request!r} {made.parts!r}"


def test_parts_that_are_not_listed_are_numbered_on_from_the_last_listed() -> None:
    listed = plan(parts=[part(0, part_number=3)], signer={"name": "a"}).check()
    none = plan(parts=[], signer={"name": "a"}, target="https://h/k", first_part_number=0).check()

    assert [listed.number(index) for index in range(3)] == [3, 4, 5]
    assert [none.number(index) for index in range(3)] == [0, 1, 2]


def test_resumed_parts_count_where_they_are_exactly_the_grids_own() -> None:
    """RC-96: of two at one offset the last, none that fits no part."""
    told = [(0, 10, "old"), (10, 9, "small"), (20, 5, "end"), (0, 10, "new"), (5, 10, "askew"), (30, 10, "out")]
    made = plan(resumed_parts=[{"offset": at, "size": size, "etag": etag} for at, size, etag in told])

    assert {index: each.etag for index, each in made.resumed()} == {0: "new", 2: "end"}


@pytest.mark.parametrize(
    "text", ["", "{}", '{"total_size": -1}', '{"total_size": 1, "chunk_size": 1, "other": 1}', "[]"]
)
def test_json_that_is_no_plan_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        PresignedUpload.from_json(text)

    assert raised.value.value == "(hidden)"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 5)), max_size=5), st.integers(0, 45))
def test_whatever_is_taken_covers_the_object_exactly_once(rows: list[tuple[int, int, int]], total: int) -> None:
    listed = [part(0) | {"offset": at, "size": size, "part_number": number} for at, size, number in rows]
    made = plan(parts=listed, total_size=total, target="https://h/k")
    try:
        made.check()
    except InvalidValue:
        return

    covered = [byte for each in made.parts for byte in range(each.offset, each.offset + each.size)]
    assert covered == list(range(total))
    assert len({each.part_number for each in made.parts}) == len(made.parts)


def test_a_range_plan_survives_json_and_shows_no_secret() -> None:
    """RC-99."""
    text = json.dumps({"range_url": f"https://h/key?sig={SECRET}", "range_headers": {"X": SECRET}, "total_size": 3})

    made = PresignedDownload.from_json(text).check()

    assert PresignedDownload.from_json(made.to_json()) == made
    assert SECRET not in f"{made!r} {made}"
    assert made.shown == "https://h/key"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"range_url": f"file:///{SECRET}"}, "range_url"),
        ({"range_url": "https://h/", "head_url": f"nonsense{SECRET}"}, "head_url"),
        ({"range_url": "https://h/", "range_headers": {"Range": "bytes=0-1"}}, "range_headers"),
        ({"range_url": "https://h/", "range_headers": {"If-Match": SECRET}}, "range_headers"),
        ({"range_url": "https://h/", "signer": {}}, "signer"),
    ],
)
def test_a_range_plan_that_cannot_be_followed_is_refused_by_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        PresignedDownload(**values).check()

    assert raised.value.field == field
    assert SECRET not in str(raised.value)


def test_a_plan_is_named_by_host_and_path_and_never_as_a_folder() -> None:
    assert name_of(plan(target=f"https://h/folder/?sig={SECRET}")) == "presigned+https://h/folder"
    assert name_of(plan()) == "presigned+https://store.test/bucket/key"


def test_host_and_length_are_left_to_the_transport() -> None:
    assert sent_headers({"Host": "h", "content-length": "3", "X-Amz-Meta": "a"}) == {"X-Amz-Meta": "a"}
