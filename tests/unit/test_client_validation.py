"""What TransferClient refuses before it connects to anything."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.client import TransferClient
from orchestrator.errors import ClientClosed, InvalidSpec, LedgerUnavailable, TransferNotFound
from tests.servers.process import free_port


@pytest.fixture
def client() -> Iterator[TransferClient]:
    """Nobody listens: whatever wants to connect fails with LedgerUnavailable."""
    with TransferClient(redis_url=f"redis://127.0.0.1:{free_port()}", redis_retry_seconds=0, host="here") as client:
        yield client


@pytest.mark.parametrize("submit", [TransferClient.submit, TransferClient.submit_paused])
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"source": "gopher://h/a"}, "source"),
        ({"destination": "relative"}, "destination"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"part_size": 1, "destination": "s3://b/k"}, "part_size"),
        ({"sauce": 1}, "sauce"),
        ({"destination": "https://h/a"}, "destination"),
    ],
)
def test_a_bad_spec_is_refused_before_any_io(
    client: TransferClient, submit: Callable[..., str], values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        submit(client, **{"source": "https://h/a", "destination": "/data/b", **values})

    assert caught.value.field == field


def test_a_good_spec_without_a_ledger_is_an_error_of_the_ledger(client: TransferClient) -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        client.submit("https://h/a", "/data/b")

    assert caught.value.number == 112


def test_a_bad_setting_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(InvalidSpec, match="HAULAGE_LEASE_SECONDS"):
        TransferClient(lease_seconds=-1)


def test_what_is_no_transfer_id_is_not_found_without_asking(client: TransferClient) -> None:
    for call in (client.get, client.pause, client.resume, client.cancel, client.retry, client.wait):
        with pytest.raises(TransferNotFound):
            call("not an id")


@pytest.mark.parametrize(
    ("call", "source", "destination", "field"),
    [
        ("upload", "https://h/a", "s3://b/k", "source"),
        ("download", "/data/a", "/data/b", "source"),
        ("download", "https://h/a", "s3://b/k", "destination"),
        ("copy", "/data/a", "s3://b/k", "source"),
        ("copy", "https://h/a", "mem:b", "destination"),
        ("upload", None, "s3://b/k", "source"),
        ("upload", "", "s3://b/k", "source"),
    ],
)
def test_a_call_for_one_direction_names_the_end_that_is_another(
    client: TransferClient, call: str, source: str | None, destination: str, field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        getattr(client, call)(source, destination)

    assert caught.value.field == field


def test_the_wrong_end_is_named_without_its_signature(client: TransferClient) -> None:
    with pytest.raises(InvalidSpec) as caught:
        client.upload("https://h/a?sig=hunter2", "s3://b/k")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (("/a", "relative"), "items[2].destination"),
        ({"source": "/a", "destination": "/b", "size_bytes": -1}, "items[2].size_bytes"),
        (("/a", "/b", {"sauce": 1}), "items[2].sauce"),
        ({"destination": "/b"}, "items[2].source"),
        (("/a",), "items[2]"),
        ("/a", "items[2]"),
    ],
)
def test_one_bad_item_of_many_is_named_before_anything_is_written(
    client: TransferClient, item: object, field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        client.submit_many([("/a", "/x"), {"source": "/a", "destination": "/y"}, item])  # type: ignore[list-item]

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("filters", "field"),
    [({"state": "lost"}, "state"), ({"state": ["paused", "lost"]}, "state"), ({"direction": "up"}, "direction"),
     ({"statee": "paused"}, "statee")],
)  # fmt: skip
def test_a_filter_that_can_match_nothing_is_refused(
    client: TransferClient, filters: dict[str, Any], field: str
) -> None:
    for call in (client.list, client.cancel_all, client.pause_all, client.resume_all, client.retry_all):
        with pytest.raises(InvalidSpec) as caught:
            call(**filters)
        assert caught.value.field == field


def test_a_client_is_neither_copied_nor_pickled(client: TransferClient) -> None:
    """RC-02: one client owns its connections, and is shared by reference."""
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="share it between threads"):
            duplicate(client)


def test_a_closed_client_refuses_every_call(client: TransferClient) -> None:
    """RC-11, RC-13, BN-16: closing twice is fine, and there is no way back."""
    assert not client.is_closed
    client.shutdown(cancel=True)
    client.shutdown(cancel=True)
    client.close()

    calls: list[Callable[[], object]] = [
        lambda: client.submit("https://h/a", "/data/b"),
        lambda: client.submit_paused("https://h/a", "/data/b"),
        lambda: client.get("s0-1"),
        lambda: client.upload("/data/a", "s3://b/k"),
        lambda: client.download("https://h/a", "/data/b"),
        lambda: client.copy("s3://b/k", "s3://b/l"),
        lambda: client.submit_many([]),
        lambda: client.find("https://h/a", "/data/b"),
        lambda: client.list(),
        lambda: client.snapshot(),
        lambda: client.wait_all(["s0-1"]),
        lambda: client.resume("s0-1"),
        lambda: client.cancel("s0-1"),
        lambda: client.retry("s0-1"),
        lambda: client.pause_all(),
        lambda: client.resume_all(),
        lambda: client.cancel_all(),
        lambda: client.retry_all(),
        lambda: client.on_progress(print),
        lambda: client.remove_listener("x"),
        lambda: client.clear_listeners(),
        lambda: client.events(),
        lambda: client.wait("s0-1"),
        lambda: client.pause("s0-1"),
        lambda: client.events("s0-1"),
        lambda: client.history("s0-1"),
        lambda: client.workers(),
    ]
    for call in calls:
        with pytest.raises(ClientClosed) as caught:
            call()
        assert caught.value.number == 107
    assert client.is_closed
