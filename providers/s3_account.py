"""One S3 endpoint reached with one credential: the SDK's client, the signer of data requests, the transport."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from requests import PreparedRequest

from providers.accounts import Accounts
from providers.base import Profile
from providers.errors import InvalidValue
from providers.s3_errors import s3_errors
from providers.schemes import redact
from providers.transport import Sign, Transport, TransportConfig, transport_for

_SILENT_SECONDS = 300.0
"""A service may say nothing while it joins 10,000 parts or copies 5 GiB."""
_ADDRESSING = ("auto", "path", "virtual")
_URL, _AUTHORIZATION = "x-url", "x-authorization"
_SCOPE = re.compile(r"/([^/]+)/([^/]+)/aws4_request,")


class S3Account:
    """Thread-safe. ``identity`` is equal for accounts that reach the same objects with the same credential."""

    def __init__(self, profile: Profile, config: TransportConfig) -> None:
        self._endpoint = profile.get("endpoint") or None
        self.identity = _identity(profile)
        self._profile = profile
        self._config = config
        self._lock = threading.Lock()
        self._patient_client: Any = None
        self.takes_checksums = True
        """False once the service refused to create an upload with a full-object checksum."""
        self.takes_conditions = True
        """False once the service did not know ``If-None-Match``."""
        self.transport: Transport = transport_for(config)
        with s3_errors(f"profile {profile.name}"):
            self._session = _session(profile)
            self.client: Any = self._new_client(config.read_seconds)
            self.client.meta.events.register("before-send.s3.GetObjectAcl", _echo)  # a call that is never really made
            self._credentials: Any = self._session.get_credentials()
        self._signers: dict[str, _Signer] = {}

    @property
    def patient_client(self) -> Any:
        """For the calls that a service answers late. Built when first used: few processes need it."""
        with self._lock:
            if self._patient_client is None:
                silent_seconds = max(self._config.read_seconds, _SILENT_SECONDS)
                with s3_errors("a client"):
                    self._patient_client = self._new_client(silent_seconds)
            return self._patient_client

    def _new_client(self, read_seconds: float) -> Any:
        """The SDK speaks HTTP by itself: of an application's session it gets the headers and the proxies."""
        own = self.transport.injected
        proxies = dict(own.proxies) if own else {}
        client = _client(self._session, self._profile, self._config.connect_seconds, read_seconds, proxies)
        if own is not None and own.headers:

            def add_headers(request: AWSPreparedRequest, **_: object) -> None:
                for name, value in own.headers.items():
                    if name not in request.headers:
                        request.headers[name] = value

            client.meta.events.register("before-send.s3", add_headers)
        return client

    def __repr__(self) -> str:
        return f"S3Account({redact(self._endpoint or 'aws')})"

    def place(self, bucket: str, key: str) -> tuple[str, Sign]:
        """The object's URL without a query, in the addressing style the SDK chose, and what signs requests to it."""
        if bucket not in self._signers and self._endpoint is None:
            self._learn_region(bucket)
        with s3_errors(f"s3://{bucket}"):
            reply = self.client.get_object_acl(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]
        url, _, _ = reply[_URL].partition("?")
        if bucket not in self._signers:
            region, service = _SCOPE.findall(reply[_AUTHORIZATION])[0]
            self._signers[bucket] = _Signer(self._credentials, region, service)
        return url, self._signers[bucket]

    def _learn_region(self, bucket: str) -> None:
        """A bucket in another region answers with a redirect, which the client follows and remembers.

        Data requests do not pass through the client, so it has to meet the redirect before them.
        """
        with suppress(BotoCoreError, ClientError):  # the request that matters reports what is wrong
            self.client.head_bucket(Bucket=bucket)


class _NoBody:
    def stream(self) -> Iterator[bytes]:
        return iter((b"<AccessControlPolicy/>",))


def _echo(request: AWSPreparedRequest, **_: object) -> AWSResponse:
    """Stands in for the service: nothing leaves, the reply tells where and how the request would have gone.

    The SDK's own presigned URLs do not: they name the global endpoint, and forget where a redirect led.
    """
    told = HTTPHeaders.from_dict({_URL: request.url, _AUTHORIZATION: _text(request.headers["Authorization"])})
    return AWSResponse(request.url, 200, told, _NoBody())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _UnsignedPayload(S3SigV4Auth):
    """SigV4 over the head only: the bytes are read once, and checked by a checksum instead."""

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


class _Signer:
    """Signs in a header, not in the URL: a URL that shows up in a log or an error is no secret then."""

    def __init__(self, credentials: Any, region: str, service: str) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service

    def __call__(self, request: PreparedRequest) -> None:
        with s3_errors("signing"):
            signed = AWSRequest(request.method, request.url, headers=_signed_headers(request.headers))
            credentials = self._credentials.get_frozen_credentials()  # renewed here when they run out
            _UnsignedPayload(credentials, self._service, self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))


def _signed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What SigV4 obliges to sign. The rest may be rewritten by a proxy on the way without harm."""
    return {name: value for name, value in headers.items() if name.lower().startswith(("x-amz-", "content-type"))}


account_for = Accounts(S3Account).get
"""The process's account for a profile, built when it is first used. Raises InvalidValue."""


def _identity(profile: Profile) -> str:
    """A hash, since it is kept and compared, and holds the secret."""
    names = ("endpoint", "region", "access_key", "secret_key", "session_token", "aws_profile")
    return hashlib.sha256("\0".join(profile.get(name) or "" for name in names).encode()).hexdigest()


def _session(profile: Profile) -> boto3.session.Session:
    """No access key: the SDK looks where it always does (environment, files, instance role)."""
    return boto3.session.Session(
        profile_name=profile.get("aws_profile") or None,
        aws_access_key_id=profile.get("access_key") or None,
        aws_secret_access_key=profile.get("secret_key") or None,
        aws_session_token=profile.get("session_token") or None,
        region_name=profile.get("region") or None,
    )


def _client(
    session: boto3.session.Session,
    profile: Profile,
    connect_seconds: float,
    read_seconds: float,
    proxies: dict[str, str],
) -> Any:
    endpoint, proxy = profile.get("endpoint") or None, profile.get("proxy")
    addressing = profile.get("addressing") or "auto"
    if addressing not in _ADDRESSING:
        raise InvalidValue(f"profile {profile.name}: addressing", addressing, ", ".join(_ADDRESSING))
    if endpoint is not None and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname):
        raise InvalidValue(
            f"profile {profile.name}: endpoint", redact(endpoint), "an http:// or https:// URL with a host"
        )
    config = Config(
        signature_version="s3v4",  # else botocore makes V2 URLs for an endpoint it does not know
        retries={"total_max_attempts": 1, "mode": "standard"},  # retrying is decided above, where budgets are known
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        s3={"addressing_style": addressing},  # type: ignore[arg-type]  # checked above
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        use_dualstack_endpoint=endpoint is None and (profile.get("ipv6") or "").lower() in ("1", "true", "yes", "on"),
        proxies={"http": proxy, "https": proxy} if proxy else proxies or None,
        max_pool_connections=32,
        tcp_keepalive=True,
        user_agent_extra="haulage",
    )
    try:
        return session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=session.region_name or ("us-east-1" if endpoint else None),
            verify=profile.get("ca_file") or None,
            config=config,
        )
    except ValueError:  # botocore's own check of the host's name
        raise InvalidValue(f"profile {profile.name}: endpoint", redact(endpoint or ""), "a valid host name") from None
