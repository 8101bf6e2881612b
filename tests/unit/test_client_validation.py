"""What TransferClient refuses before it connects to anything."""

from __future__ import annotations

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


def test_a_closed_client_refuses_every_call(client: TransferClient) -> None:
    assert not client.is_closed
    client.close()
    client.close()

    calls: list[Callable[[], object]] = [
        lambda: client.submit("https://h/a", "/data/b"),
        lambda: client.submit_paused("https://h/a", "/data/b"),
        lambda: client.get("s0-1"),
        lambda: client.list(),
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
