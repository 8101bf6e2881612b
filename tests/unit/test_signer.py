"""Who signs: which callbacks may be asked, how a request proves where it comes from, and functions on the workers."""

from __future__ import annotations

import time
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import providers.signer
from providers.base import Profile, Services
from providers.errors import Forbidden, InvalidValue, ProviderUnavailable, SignerRefused, SignerUnavailable
from providers.plans import Signer
from providers.plans_signing import check_signer_request
from providers.signer import SIGNATURE, TIMESTAMP, SignerCalls, check_callback, signature
from tests.servers.signer_server import KEY, SignerServer

SERVICES = Services()


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "https://10.0.0.1/sign",
        "https://192.168.1.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "http://8.8.8.8/sign",
    ],
)
def test_a_callback_into_the_workers_network_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        check_callback(f"{url}?token=c4n4ry", frozenset())

    assert raised.value.field == "signer.url"
    assert "c4n4ry" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://8.8.8.8/sign", ""),
        ("http://127.0.0.1:8000/sign", ""),
        ("https://[::1]/sign", ""),
        ("http://10.0.0.1/sign", "10.0.0.1"),
        ("http://app.internal/sign", "app.internal"),
    ],
)
def test_public_https_loopback_and_named_hosts_may_be_asked(url: str, allowed: str) -> None:
    check_callback(url, frozenset(filter(None, [allowed])))


def test_a_request_proves_that_it_comes_from_a_worker_and_is_fresh() -> None:
    now, body = str(int(time.time())), b'{"version":1}'
    good = {TIMESTAMP.lower(): now, SIGNATURE: signature(KEY, now, body)}

    check_signer_request(KEY, good, body)
    old = str(int(time.time()) - 600)
    for headers, sent in (
        (good, body + b" "),
        ({**good, SIGNATURE: signature("another", now, body)}, body),
        ({TIMESTAMP: old, SIGNATURE: signature(KEY, old, body)}, body),
        ({TIMESTAMP: "soon", SIGNATURE: signature(KEY, "soon", body)}, body),
        ({}, body),
    ):
        with pytest.raises(Forbidden):
            check_signer_request(KEY, headers, sent)


def test_a_worker_with_another_key_is_refused_by_the_application_and_waits() -> None:
    with SignerServer(lambda asks: {"parts": []}) as server:
        pauses: list[float] = []
        call = SignerCalls(Signer(url=server.url), Profile("s", {"signer_key": "wrong"}), SERVICES, sleep=pauses.append)
        with pytest.raises(SignerUnavailable) as raised:
            call({})

    assert raised.value.status == 403
    assert len(pauses) == 2
    assert "token" not in str(raised.value)


def test_without_a_key_nothing_is_asked() -> None:
    with SignerServer(lambda asks: {}) as server:
        with pytest.raises(ProviderUnavailable):
            SignerCalls(Signer(url=server.url), Profile("s"), SERVICES)({})
        assert not server.asked


def test_functions_installed_on_the_workers_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, f"{__name__}:{name}", "haulage.signers") for name in ("answers", "fails", "babbles")]
    monkeypatch.setattr(providers.signer, "entry_points", lambda group: points)
    providers.signer._functions.cache_clear()
    try:
        assert SignerCalls(Signer(name="answers"), Profile("s"), SERVICES)({"a": 1}) == {"parts": [], "asked": {"a": 1}}
        with pytest.raises(SignerUnavailable) as raised:
            SignerCalls(Signer(name="fails"), Profile("s"), SERVICES)({})
        with pytest.raises(SignerRefused):
            SignerCalls(Signer(name="babbles"), Profile("s"), SERVICES)({})
        with pytest.raises(ProviderUnavailable):
            SignerCalls(Signer(name="nobody"), Profile("s"), SERVICES)({})
    finally:
        providers.signer._functions.cache_clear()
    assert "sig=" not in str(raised.value)


def answers(asks: dict[str, Any]) -> dict[str, Any]:
    return {"parts": [], "asked": asks}


def fails(asks: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("https://store.test/key?sig=c4n4ry")


def babbles(asks: dict[str, Any]) -> Any:
    return "yes"
