"""Reading from a real Azure Blob server, copying inside it, and who may; blobs are prepared by Microsoft's SDK."""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from typing import Any

import pytest
from azure.storage.blob import ContentSettings

from providers.base import ByteRange, UploadId, Validator
from providers.errors import CredentialExpired, DestinationExists, Forbidden, InvalidRange, NotFound, SourceChanged
from tests.contract.azure_place import FIRST, LAST, PART, SECOND, THREE, Place, part, plan_for, put, upload_all
from tests.contract.objects import read_all
from tests.servers.azurite import Azurite
from tests.servers.logging_proxy import LoggingProxy

pytest_plugins = ["tests.contract.azure_fixtures"]
ANY = Validator("none")
UPLOAD = UploadId("0123456789ab")


# reading


def test_the_etag_pins_a_blob(azure: Place) -> None:
    azure.write(FIRST)
    stat = azure.source().stat()

    assert (stat.size_bytes, stat.validator) == (PART, Validator("etag", stat.etag or ""))
    assert stat.etag == azure.blob.get_blob_properties().etag
    assert stat.name == azure.name.rpartition("/")[2]


def test_a_coding_is_a_label_of_the_stored_bytes(azure: Place) -> None:
    azure.blob.upload_blob(b"no gzip at all", content_settings=ContentSettings(content_encoding="gzip"))
    source = azure.source()

    assert read_all(source.read_range(ByteRange(0, 14), validator=source.stat().validator)) == b"no gzip at all"


def test_a_cut_range_is_reported_while_it_is_read(azure_proxied: Place, azure_proxy: LoggingProxy) -> None:
    azure_proxied.write(FIRST * 32)
    source = azure_proxied.source()
    azure_proxy.cut_after(PART * 16, "GET", azure_proxied.name)

    body = source.read_range(ByteRange(0, PART * 32), validator=source.stat().validator)

    with pytest.raises(Exception, match=r"early|Error") as cut:
        read_all(body)
    assert cut.value.code == "transport"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "key", ["a b/ü%&+=?.bin", "日本/🎉", "x//y", "~t'(x)*!;:@$,", "plus+and%2Fescaped", "#hash?query=1&b"]
)
def test_odd_names_are_written_and_read_as_they_are(azurite: Azurite, key: str) -> None:
    azure = Place(azurite, f"{uuid.uuid4().hex}/{key}")
    to = azure.destination()

    to.complete_upload(*upload_all(to, (FIRST, LAST)))

    source = azure.source()
    assert azure.read() == FIRST + LAST
    assert read_all(source.read_range(ByteRange(PART, PART + 3), validator=source.stat().validator)) == b"the"


# server-side copy


@pytest.mark.parametrize("way", ["key", "sas"])
def test_parts_are_copied_by_the_service_itself(
    azure: Place, azure_origin: Place, azure_proxy: LoggingProxy, way: str
) -> None:
    azure_origin.write(FIRST + SECOND + LAST)
    values: dict[str, Any] = {"endpoint": f"{azure_proxy.endpoint}/{azure.server.account}"}
    if way == "sas":
        values |= {"key": "", "sas_token": azure.sas()}
    source = Place(azure.server, azure_origin.name, **values).source()
    to = Place(azure.server, azure.name, **values).destination()
    validator = source.stat().validator
    upload = to.create_upload(plan_for(THREE))

    receipts = [to.copy_part(upload, part(n, body), source, validator=validator) for n, body in enumerate(THREE, 1)]
    to.complete_upload(upload, receipts)

    assert to.can_copy_from(source)
    assert azure.read() == FIRST + SECOND + LAST
    copies = azure_proxy.requests("PUT", "comp=block&")
    assert [each.sent_bytes for each in copies] == [0, 0, 0]


def test_a_copy_of_a_changed_source_is_refused(azure: Place, azure_origin: Place) -> None:
    azure_origin.write(FIRST + LAST)
    source = azure_origin.source()
    validator = source.stat().validator
    azure_origin.write(SECOND + LAST)
    to = azure.destination()
    upload = to.create_upload(plan_for((FIRST, LAST)))

    with pytest.raises(SourceChanged):
        to.copy_part(upload, part(1, FIRST), source, validator=validator)


def test_only_the_same_account_at_the_same_endpoint_can_copy(azure: Place) -> None:
    to = azure.destination()

    assert to.can_copy_from(Place(azure.server, "other").source())
    assert not to.can_copy_from(azure.at("http://127.0.0.1:1").source())


# who may


def test_a_sas_serves_as_well_as_a_key(azure: Place) -> None:
    by_sas = azure.by_sas(f"?{azure.sas()}")
    to = by_sas.destination()

    to.complete_upload(*upload_all(to, THREE))

    source = by_sas.source()
    span = ByteRange(10, PART + 10)
    assert read_all(source.read_range(span, validator=source.stat().validator)) == (FIRST + SECOND)[10 : PART + 10]
    to.remove()
    assert azure.read() is None


@pytest.mark.parametrize("bodies", [(LAST,), THREE], ids=["single put", "blocks"])
def test_a_sas_that_may_only_write_is_enough(azure: Place, bodies: tuple[bytes, ...]) -> None:
    to = azure.by_sas(azure.sas("wc")).destination(on_exists="fail")
    upload, receipts = upload_all(to, bodies)

    stat = to.complete_upload(upload, receipts)

    assert azure.read() == b"".join(bodies)
    assert (stat.size_bytes, stat.etag) == (len(b"".join(bodies)), azure.blob.get_blob_properties().etag)
    to.abort_upload(upload)


def test_a_sas_that_may_only_write_replaces_nothing_unasked(azure: Place) -> None:
    azure.write(b"first")
    to = azure.by_sas(azure.sas("wc")).destination(on_exists="fail")
    upload, receipts = upload_all(to, THREE)

    with pytest.raises(DestinationExists):
        to.complete_upload(upload, receipts)

    assert azure.read() == b"first"


def refusals(of: Place) -> list[type[Exception]]:
    """What each kind of request ends in."""
    to, source = of.destination(), of.source()
    found = []
    for ask in (
        source.stat,
        lambda: source.read_range(ByteRange(0, 1), validator=ANY),
        lambda: put(to, UPLOAD, 1, FIRST),
        lambda: put(to, to.create_upload(plan_for((LAST,))), 1, LAST),
        lambda: to.copy_part(UPLOAD, part(1, FIRST), source, validator=ANY),
        lambda: to.list_parts(UPLOAD),
        to.remove,
    ):
        with pytest.raises(Exception, match="azblob://contract") as refused:
            ask()
        assert "sig=" not in str(refused.value)
        found.append(refused.type)
    return found


def test_a_wrong_key_is_forbidden_everywhere(azure: Place) -> None:
    azure.write(FIRST)
    wrong = base64.b64encode(b"wrong").decode()

    assert set(refusals(Place(azure.server, azure.name, key=wrong))) == {Forbidden}


def test_a_sas_that_ran_out_is_expired_everywhere(azure: Place) -> None:
    azure.write(FIRST)

    assert set(refusals(azure.by_sas(azure.sas(lasts=-timedelta(minutes=1))))) == {CredentialExpired}


def test_a_sas_that_was_tampered_with_is_forbidden(azure: Place) -> None:
    azure.write(FIRST)

    assert set(refusals(azure.by_sas(azure.sas().replace("sp=r", "sp=rl")))) == {Forbidden}


def test_a_sas_that_may_only_read_writes_nothing(azure: Place) -> None:
    azure.write(FIRST)
    to = azure.by_sas(azure.sas("r")).destination()

    with pytest.raises(Forbidden):
        put(to, to.create_upload(plan_for(THREE)), 1, FIRST)


def test_what_is_missing_is_not_found(azure: Place) -> None:
    with pytest.raises(NotFound):
        azure.source().stat()
    with pytest.raises(NotFound):
        azure.source().read_range(ByteRange(0, 1), validator=ANY)


def test_a_range_past_the_end_is_invalid(azure: Place) -> None:
    azure.write(b"short")

    with pytest.raises(InvalidRange):
        azure.source().read_range(ByteRange(5, 6), validator=ANY)


# what a service may do wrong


def test_throttling_says_when_to_come_back(azure_proxied: Place, azure_proxy: LoggingProxy) -> None:
    busy: dict[str, Any] = {
        "status": 503,
        "body": b"<Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>",
        "headers": (("Retry-After", "7"), ("x-ms-error-code", "ServerBusy")),
    }
    azure_proxy.answer("GET", "comp=blocklist", **busy)
    azure_proxy.answer("PUT", "comp=block&", **busy)
    to = azure_proxied.destination()

    with pytest.raises(Exception, match="ServerBusy") as small:
        to.create_upload(plan_for(THREE))
    with pytest.raises(Exception, match="ServerBusy") as data:
        put(to, to.create_upload(plan_for(THREE)), 1, FIRST)

    for failed in (small.value, data.value):
        assert (failed.code, failed.retry_after_seconds) == ("throttled", 7)  # type: ignore[attr-defined]


def test_a_cut_block_is_not_taken_for_stored(azure_proxied: Place, azure_proxy: LoggingProxy) -> None:
    to = azure_proxied.destination()
    upload = to.create_upload(plan_for(THREE))
    azure_proxy.cut_after(1000, "PUT", "comp=block&")

    with pytest.raises(Exception, match=r"Error|Disconnected|Pipe|reset") as cut:
        put(to, upload, 1, FIRST)

    assert cut.value.code == "transport"  # type: ignore[attr-defined]
    assert to.list_parts(upload) == []


def test_a_reply_without_an_etag_is_no_receipt(azure_proxied: Place, azure_proxy: LoggingProxy) -> None:
    azure_proxy.answer("PUT", azure_proxied.name, status=201)
    to = azure_proxied.destination()

    with pytest.raises(Exception, match="no ETag") as failed:
        put(to, to.create_upload(plan_for((LAST,))), 1, LAST)

    assert failed.value.code == "response_parse"  # type: ignore[attr-defined]
