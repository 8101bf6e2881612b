"""What the command line says of a fault: short, without what is on the screen already."""

from __future__ import annotations

import pytest

from haulage import Progress, State, Transfer
from haulage.cli.closer import Details
from haulage.cli.phrases import phrase, short_message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "create upload of s3://bucket/k: Unable to locate credentials"},
         "create upload: Unable to locate credentials"),
        ({"message": "GET https://host/a?b: ConnectionResetError: reset by peer"}, "reset by peer"),
        ({"message": "HEAD http://host/x: status 404"}, "status 404"),
        ({"code": "lease_lost"}, "whoever moved it died or lost touch"),
        ({"code": "stalled", "message": ""}, "stalled"),
        ({}, "unknown fault"),
    ],
)  # fmt: skip
def test_a_fault_is_said_without_its_url_and_never_as_nothing(error: dict[str, str], said: str) -> None:
    assert short_message(error) == said


def without_credentials(source: str, destination: str, asked: str, *, embedded: bool) -> str:
    """The phrase of a transfer that waits because the SDK found no credentials when it did what ``asked`` says."""
    error = {"code": "provider_unavailable", "message": f"{asked}: Unable to locate credentials"}
    transfer = Transfer(
        transfer_id="s0-1",
        state=State.WAITING,
        reason="provider",
        source=source,
        destination=destination,
        direction="copy",
        progress=Progress(0, 0, 100, 0, 1),
        error=error,
        result={},
        tenant="default",
        reference="",
        created_at=1.0,
        started_at=None,
        ended_at=None,
    )
    return phrase(transfer, Details(wakes_in_seconds=30), embedded=embedded)


@pytest.mark.parametrize(
    ("source", "destination", "asked", "end"),
    [
        ("s3://a/k", "s3://b/k", "HEAD s3://a/k", "source"),
        ("s3://a/k", "s3://b/k", "create upload of s3://b/k", "destination"),
        ("s3://a/k", "file://here/k", "signing", "source"),
        ("https://host/k", "s3://b/k", "signing", "destination"),
    ],
)
def test_missing_credentials_are_asked_for_at_the_end_that_lacks_them(
    source: str, destination: str, asked: str, end: str
) -> None:
    names = "HAULAGE_PROFILE_S3__ACCESS_KEY and __SECRET_KEY"

    said = without_credentials(source, destination, asked, embedded=True)

    assert said == f"no credentials for s3: set --{end}-profile or {names}, then run it again, next try in 30 s"


def test_who_only_submits_to_a_fleet_is_not_told_to_set_its_credentials() -> None:
    said = without_credentials("https://host/k", "s3://b/k", "create upload of s3://b/k", embedded=False)

    assert said == (
        "waiting: its workers cannot use this storage (create upload: Unable to locate credentials), next try in 30 s"
    )
