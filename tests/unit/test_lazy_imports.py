"""What an application pays for ``import haulage``: nothing that only a submit or a worker needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import haulage

_HEAVY = ("boto3", "celery", "kombu", "redis", "requests", "structlog", "urllib3")
_ASK = f"import sys; print([each for each in {_HEAVY} if each in sys.modules])"


def loaded_after(code: str) -> str:
    """Which heavy modules a fresh interpreter holds after ``code``."""
    argv = [sys.executable, "-W", "error", "-c", f"{code}\n{_ASK}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_importing_the_package_imports_no_broker_no_redis_and_no_sdk() -> None:
    assert loaded_after("import haulage") == "[]"
    assert loaded_after("import haulage; haulage.TransferClient, haulage.AsyncTransferClient, haulage.Settings") == "[]"


def test_a_client_that_submits_nothing_imports_connects_and_starts_nothing() -> None:
    """RC-01: building the client does no work."""
    code = """
import threading
from haulage import TransferClient
with TransferClient(redis_url="redis://192.0.2.1:1/0") as client:
    assert not client.is_closed
    assert threading.active_count() == 1
assert client.is_closed
del client
import gc; gc.collect()
"""
    assert loaded_after(code) == "[]"


def test_celery_is_not_imported_to_look_at_transfers() -> None:
    code = """
from haulage import LedgerUnavailable, TransferClient
with TransferClient(redis_url="redis://127.0.0.1:1/0", redis_retry_seconds=0) as client:
    for call in (client.list, client.snapshot, client.workers, client.cancel_all):
        try:
            call()
        except LedgerUnavailable as exc:
            assert str(exc) == "Redis at 127.0.0.1:1 did not answer: connection refused", exc
"""
    assert loaded_after(code) == "['redis']"


@pytest.mark.parametrize("name", haulage.__all__)
def test_every_public_name_is_found_in_its_home(name: str) -> None:
    assert name in dir(haulage)
    assert getattr(haulage, name).__name__ == name


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TransferCleint'"):
        haulage.TransferCleint  # type: ignore[attr-defined]  # noqa: B018 - the access is what is tested
