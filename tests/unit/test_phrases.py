"""What the command line says of a fault: short, without what is on the screen already."""

from __future__ import annotations

import pytest

from haulage.cli.phrases import short_message


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
