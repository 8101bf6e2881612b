"""A web server that answers badly: each fault ends as it should, and the file is never wrong."""

from __future__ import annotations

import time
from collections import Counter
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.states import State
from tests.e2e.shared import KIB, QUICK_RETRY, Site, noise, partial_files
from tests.servers.range_server import RangeServer, Request

pytest_plugins = ["tests.e2e.calm"]

PART = 64 * KIB
DATA = noise(3 * PART + 1000)
OTHER = noise(len(DATA) + 1)[1:]
IN_PART_2 = {"method": "GET", "ranged": True, "after": 1}


def path_of(site: Site) -> str:
    """Each test has a URL of its own: parts of a transfer that has failed may still be read while the next one runs."""
    return f"/{site.folder.name}/object.bin"


def arrives(site: Site, **options: Any) -> Path:
    target = site.folder / "target.bin"
    site.run(site.web.base + path_of(site), target, part_size=PART, **options)
    assert target.read_bytes() == DATA
    assert partial_files(site.folder) == []
    return target


def fails(site: Site, **options: Any) -> tuple[int, str]:
    target = site.folder / "target.bin"
    ended = site.fail(site.web.base + path_of(site), target, part_size=PART, **options)
    assert not target.exists()
    return ended


PASSING = {
    "short length announced": {"announce": -10},
    "cut in the body": {"cut": 1000},
    "reset in the body": {"reset": 1000},
    "cut before the body": {"cut": 0},
    "stall in the body": {"stall": 1000},
    "no answer at all": {"stall_head": True},
    "close-delimited and cut": {"close_delimited": True, "cut": 1000},
    "chunked and cut": {"chunked": True, "cut": 1000},
    "bytes after the end": {"surplus": b"more"},
    "request time-out": {"status": 408},
    "too early": {"status": 425},
    "too many requests": {"status": 429},
    "server fault": {"status": 500},
    "bad gateway": {"status": 502},
    "unavailable": {"status": 503},
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_retried_and_the_bytes_are_right(site: Site, fault: dict[str, Any]) -> None:
    site.web.serve(path_of(site), DATA)
    site.web.fault(path_of(site), times=1, **IN_PART_2, **fault)

    arrives(site)

    expected = 4 if "surplus" in fault else 5  # what follows a whole body is dropped with its connection
    assert len(site.gets(path_of(site))) == expected
    assert len(set(site.starts(path_of(site)))) == 4


LASTING: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "200 to a range": ({"ignore_range": True}, (114, "invalid_range")),
    "Content-Range starts elsewhere": ({"shift_start": 1}, (114, "invalid_range")),
    "Content-Range of another total": ({"total": "77"}, (114, "source_changed")),
    "no Content-Range": ({"without": ("Content-Range",)}, (114, "invalid_range")),
    "longer than the range": ({"announce": 10}, (114, "invalid_range")),
    "gzip": ({"gzip": True}, (114, "invalid_range")),
    "another ETag": ({"headers": {"ETag": '"other"'}}, (114, "source_changed")),
    "the ETag made weak": ({"headers": {"ETag": 'W/"other"'}}, (114, "source_changed")),
    "no ETag any more": ({"without": ("ETag",)}, (114, "source_changed")),
    "precondition failed": ({"status": 412}, (114, "source_changed")),
    "range not satisfiable": ({"status": 416}, (114, "invalid_range")),
    "unauthorised": ({"status": 401}, (109, "forbidden")),
    "forbidden": ({"status": 403}, (109, "forbidden")),
    "gone": ({"status": 410}, (109, "not_found")),
    "a status nobody knows": ({"status": 418}, (109, "response_status")),
}


@pytest.mark.parametrize(("fault", "error"), LASTING.values(), ids=LASTING)
def test_a_fault_that_lasts_fails_the_transfer_at_once_and_leaves_no_file(
    site: Site, fault: dict[str, Any], error: tuple[int, str]
) -> None:
    site.web.serve(path_of(site), DATA)
    site.web.fault(path_of(site), **IN_PART_2, **fault)

    assert fails(site, parts_in_flight=1) == error

    assert len(site.gets(path_of(site))) == 2  # nothing that is final is tried again


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500}, (109, "server_fault")),
        ({"status": 429}, (109, "throttled")),
        ({"cut": 100}, (106, "transport")),
    ],
    ids=["server fault", "throttled", "cut"],
)
def test_a_fault_outlasts_the_retries_of_its_part_only(
    site: Site, fault: dict[str, Any], error: tuple[int, str]
) -> None:
    site.web.serve(path_of(site), DATA)
    site.web.fault(path_of(site), **IN_PART_2, **fault)

    assert fails(site, parts_in_flight=1, retry={**QUICK_RETRY, "part_attempts": 3}) == error

    counts = Counter(site.starts(path_of(site)))
    assert counts[0] == 1  # each part has its own attempts
    assert max(counts.values()) == 3


def test_as_many_faults_as_there_are_retries_are_survived(site: Site) -> None:
    site.web.serve(path_of(site), DATA)
    site.web.fault(path_of(site), status=503, times=2, **IN_PART_2)

    arrives(site, parts_in_flight=1, retry={**QUICK_RETRY, "part_attempts": 3})


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_nobody_comes_back_before_retry_after(site: Site, form: str, method: str) -> None:
    site.web.serve(path_of(site), DATA)
    text = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    site.web.fault(path_of(site), method=method, status=429, headers={"Retry-After": text}, times=1)

    target = site.folder / "target.bin"
    site.run(site.web.base + path_of(site), target, part_size=len(DATA))

    refused, after = [each for each in site.web.requests if each.method == method][:2]
    assert refused.status == 429
    allowed = refused.unix_time + 1 if form == "seconds" else parsedate_to_datetime(text).timestamp()
    assert after.unix_time >= allowed
    assert target.read_bytes() == DATA


def test_a_source_that_changes_between_two_parts_fails_and_is_never_mixed(site: Site) -> None:
    with changing_server(site, honest=True) as web:
        target = site.folder / "target.bin"
        ended = site.fail(web.base + path_of(site), target, part_size=PART, parts_in_flight=1)

    assert ended == (114, "source_changed")
    assert not target.exists()


@pytest.mark.parametrize("honest", [True, False], ids=["If-Match honoured", "If-Match ignored"])
def test_with_restart_a_changed_source_is_fetched_anew_as_a_whole(site: Site, honest: bool) -> None:
    with changing_server(site, honest=honest) as web:
        target = site.folder / "target.bin"
        site.run(web.base + path_of(site), target, part_size=PART, parts_in_flight=1, on_source_change="restart")

    assert target.read_bytes() == OTHER
    assert partial_files(site.folder) == []


def changing_server(site: Site, *, honest: bool) -> RangeServer:
    """Serves DATA until the first part was fetched, and OTHER, of the same size and another ETag, from then on."""

    def swap(request: Request) -> None:
        if request.method == "GET" and server.objects[path_of(site)].content is DATA:
            server.serve(path_of(site), OTHER, etag='"other"')

    server = RangeServer(log=swap)
    server.serve(path_of(site), DATA, etag='"one"')
    if not honest:
        server.fault(path_of(site), ignore_conditions=True)
    return server


def test_a_server_that_ignores_if_match_is_found_out_by_its_etag(site: Site) -> None:
    with changing_server(site, honest=False) as web:
        target = site.folder / "target.bin"
        ended = site.fail(web.base + path_of(site), target, part_size=PART, parts_in_flight=1)

    assert ended == (114, "source_changed")
    assert not target.exists()


def test_a_part_that_fails_for_good_keeps_the_others_for_a_retry(site: Site) -> None:
    site.web.serve(path_of(site), DATA)
    fault = site.web.fault(path_of(site), status=403, **IN_PART_2)
    target = site.folder / "target.bin"
    transfer_id = site.submit(site.web.base + path_of(site), target, part_size=PART, parts_in_flight=1)
    site.fleet.wait_state(transfer_id, State.FAILED)
    fault.times = 0

    site.client.retry(transfer_id)
    site.fleet.wait(transfer_id)

    assert target.read_bytes() == DATA
    assert site.starts(path_of(site)).count(0) == 1
