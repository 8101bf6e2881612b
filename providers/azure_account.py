"""One Azure storage account reached with one credential: endpoint, signature, transport, and the service's clock."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob import BlobSasPermissions, generate_blob_sas

# Not exported, but the one signer Microsoft maintains; a fixed vector in the tests tells when it moves.
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from requests import PreparedRequest

from providers.accounts import Accounts
from providers.azure_errors import azure_errors, reply_error
from providers.base import Profile
from providers.errors import CredentialExpired, InvalidValue, ProviderError, ServerFault, SourceChanged
from providers.schemes import redact
from providers.transport import Reply, Transport, TransportConfig, transport_for

API_VERSION = "2023-11-03"
_OLDEST_API_VERSION = "2020-04-08"
"""The first with blocks of 4000 MiB, also for those the service fetches itself."""
ACCESS_TIERS = ("Hot", "Cool", "Cold", "Archive")
_SILENT_SECONDS = 300.0
"""A service may say nothing while it joins 50,000 blocks or fetches one of them."""
_COPY_SAS_SECONDS = 3600
_CLOCK_SECONDS = 60.0
"""Clocks that differ less are equal: the service accepts 15 minutes."""
_EMULATOR = {
    "AccountName": "devstoreaccount1",
    # Published by Microsoft for the emulator on one's own machine.
    "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


@dataclass(frozen=True, slots=True)
class Credential:
    """An account key or a SAS, and where it counts."""

    account: str
    endpoint: str
    """Without a slash at its end, a query or a secret."""
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)

    @property
    def sas_ends(self) -> datetime | None:
        """When the SAS runs out; None for a key, and where the SAS leaves it to a stored policy."""
        ends = dict(parse_qsl(self.sas)).get("se", "")
        with suppress(ValueError):
            found = datetime.fromisoformat(ends)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return None


_POLICY: Any = SharedKeyCredentialPolicy  # untyped


class AzureAccount:
    """Thread-safe. Every request is signed, sent and judged here."""

    def __init__(self, profile: Profile, config: TransportConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._credential = credential_of(profile)
        self.endpoint = self._credential.endpoint
        self.access_tier = _access_tier(profile)
        self._api_version = _api_version(profile)
        self._policy: Any = _POLICY(self._credential.account, self._credential.key)
        self._ahead_seconds = 0.0
        """How far the service's clock is ahead of this machine's; 0 until it mattered."""
        self.transport: Transport = transport_for(config)
        self._patient_transport: Transport = transport_for(
            replace(config, read_seconds=max(config.read_seconds, _SILENT_SECONDS))
        )

    def __repr__(self) -> str:
        return f"AzureAccount({self.endpoint})"

    def url(self, container: str, blob: str) -> str:
        return f"{self.endpoint}/{quote(container)}/{quote(blob, safe='~/')}"

    def call(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        max_bytes: int = 1 << 20,
        patient: bool = False,
        precondition: type[ProviderError] = SourceChanged,
    ) -> Reply:
        """A small call. Raises what a failing status stands for."""
        transport = self._patient_transport if patient else self.transport
        reply = transport.request(method, url, headers=headers, data=data, max_bytes=max_bytes, sign=self.sign)
        if not reply.ok:
            raise self.error(reply, what=what, precondition=precondition)
        return reply

    def sign(self, request: PreparedRequest) -> None:
        """Shared Key goes into a header; a SAS into the query of a URL that no error shows."""
        headers = request.headers
        headers["x-ms-version"] = self._api_version
        headers["x-ms-date"] = formatdate(self._clock() + self._ahead_seconds, usegmt=True)
        if self._credential.sas:
            url = str(request.url)
            request.url = f"{url}{'&' if '?' in url else '?'}{self._credential.sas}"
            return
        if "Range" in headers:  # the SDK's policy leaves a Range out of what it signs; this name counts the same
            headers["x-ms-range"] = headers.pop("Range")
        signed = HttpRequest(str(request.method), str(request.url), headers=dict(headers))
        with azure_errors("signing"):
            self._policy.on_request(PipelineRequest(signed, PipelineContext(None)))
        headers["Authorization"] = signed.headers["Authorization"]

    def readable_url(self, container: str, blob: str) -> str:
        """A URL by which the service itself may read the blob for an hour. It is a secret."""
        if self._credential.sas:
            return f"{self.url(container, blob)}?{self._credential.sas}"
        with azure_errors("signing"):
            sas = generate_blob_sas(
                self._credential.account,
                container,
                blob,
                account_key=self._credential.key,
                permission=BlobSasPermissions(read=True),
                expiry=self._now() + timedelta(seconds=_COPY_SAS_SECONDS),
            )
        return f"{self.url(container, blob)}?{sas}"

    def error(self, reply: Reply, *, what: str, precondition: type[ProviderError] = SourceChanged) -> ProviderError:
        """What a failing reply stands for, knowing the credential and the clock it was judged by."""
        error = reply_error(reply, what=what, precondition=precondition)
        if reply.status != 403 or isinstance(error, CredentialExpired):
            return error
        ahead = self._ahead_of(reply)
        ends = self._credential.sas_ends
        if ends is not None and ends <= self._now() + timedelta(seconds=ahead or 0.0):
            return CredentialExpired(f"{what}: the SAS ran out at {ends.isoformat()}", status=403)
        if ahead is not None and not self._credential.sas and abs(ahead - self._ahead_seconds) > _CLOCK_SECONDS:
            self._ahead_seconds = ahead
            said = f"the service's clock differs by {ahead:.0f} s from this machine's, which is allowed for from now on"
            return ServerFault(f"{what}: {said}", status=403)
        return error

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() + self._ahead_seconds, UTC)

    def _ahead_of(self, reply: Reply) -> float | None:
        """Seconds the service's clock is ahead of this machine's; None where it names no time."""
        try:
            return parsedate_to_datetime(reply.headers.get("Date", "")).timestamp() - self._clock()
        except (TypeError, ValueError):
            return None


# from a profile


def credential_of(profile: Profile) -> Credential:
    """Its own values first, then those of its connection string. Makes no request. Raises InvalidValue."""
    told = _connection_string(profile)
    account = profile.get("account") or told.get("AccountName", "")
    key = profile.get("key") or ("" if profile.get("sas_token") else told.get("AccountKey", ""))
    sas = "" if key else (profile.get("sas_token") or told.get("SharedAccessSignature", "")).strip().lstrip("?")
    if profile.get("key") and profile.get("sas_token"):
        raise InvalidValue(_field(profile, "sas_token"), "(hidden)", "either a key or a SAS")
    if not key and not sas:
        raise InvalidValue(_field(profile, "key"), "", "an account key, a sas_token or a connection_string")
    if key and not account:
        raise InvalidValue(_field(profile, "account"), "", "the name of the storage account")
    _check_key(profile, key)
    if sas and "sig" not in dict(parse_qsl(sas)):
        raise InvalidValue(_field(profile, "sas_token"), "(hidden)", "a SAS: a query with a sig")
    return Credential(account, _endpoint(profile, account, told), key, sas)


def _field(profile: Profile, name: str) -> str:
    return f"profile {profile.name}: {name}"


def _connection_string(profile: Profile) -> dict[str, str]:
    text = (profile.get("connection_string") or "").strip()
    pairs = [each.strip().partition("=") for each in text.split(";") if each.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        raise InvalidValue(_field(profile, "connection_string"), "(hidden)", "NAME=value;NAME=value")
    told = {name: value for name, _, value in pairs}
    if told.get("UseDevelopmentStorage", "").lower() == "true":
        return _EMULATOR
    return told


def _check_key(profile: Profile, key: str) -> None:
    try:
        if key:
            base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(_field(profile, "key"), "(hidden)", "the account's key in base64") from None


def _endpoint(profile: Profile, account: str, told: Mapping[str, str]) -> str:
    endpoint = profile.get("endpoint") or told.get("BlobEndpoint", "")
    if not endpoint and not account:
        raise InvalidValue(_field(profile, "account"), "", "the name of the storage account, or an endpoint")
    if not endpoint:
        scheme = told.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{scheme}://{account}.blob.{told.get('EndpointSuffix', 'core.windows.net')}"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InvalidValue(_field(profile, "endpoint"), redact(endpoint), "a valid host and port") from None
    if not usable or parts.query or parts.username or any(char.isspace() for char in endpoint):
        allowed = "an http:// or https:// URL with a host, without a query"
        raise InvalidValue(_field(profile, "endpoint"), redact(endpoint), allowed)
    return endpoint.rstrip("/")


def _api_version(profile: Profile) -> str:
    version = profile.get("api_version") or API_VERSION
    try:
        datetime.strptime(version, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        version = ""
    if version < _OLDEST_API_VERSION:
        allowed = f"a version of the service such as {API_VERSION}, from {_OLDEST_API_VERSION} on"
        raise InvalidValue(_field(profile, "api_version"), profile.get("api_version"), allowed)
    return version


def _access_tier(profile: Profile) -> str:
    wanted = profile.get("access_tier") or ""
    for tier in ACCESS_TIERS:
        if tier.lower() == wanted.lower():
            return tier
    if wanted:
        raise InvalidValue(_field(profile, "access_tier"), wanted, ", ".join(ACCESS_TIERS))
    return ""


account_for = Accounts(AzureAccount).get
"""The process's account for a profile, built when it is first used. Raises InvalidValue."""
