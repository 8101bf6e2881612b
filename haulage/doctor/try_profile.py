"""One cheap call with a profile: what a store, or a web server, says to the credential."""

from __future__ import annotations

from haulage.doctor.check import Check, fail, ok
from orchestrator.settings import Settings
from providers.base import Options, Profile, Services
from providers.errors import (
    CredentialExpired,
    Forbidden,
    InvalidValue,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    TransportError,
)
from providers.registry import open_source
from providers.schemes import Location

_ADVICE: dict[type[ProviderError], str] = {
    CredentialExpired: "renew the key or token; if it is fresh, set this machine's clock",
    Forbidden: "look at access key, secret key and region of the profile, then at the permissions of its user",
    NotFound: "look for a typing error in the name, and at the endpoint and region of the profile",
    TransportError: "look at endpoint, proxy and ca_file of the profile, then at the firewall",
    ProviderUnavailable: "install what is missing, or mend the profile",
    InvalidValue: "mend the value",
}


def services(settings: Settings) -> Services:
    """What a worker lends to providers, without Redis."""
    return Services(
        roots=tuple(settings.roots),
        connect_seconds=settings.connect_seconds,
        read_seconds=settings.read_seconds,
        minimum_bytes_per_second=settings.minimum_bytes_per_second,
        stall_seconds=settings.stall_seconds,
    )


def list_one(title: str, profile: Profile, settings: Settings, bucket: str) -> Check:
    """ListObjectsV2 with one key. Raises ImportError without boto3."""
    from providers.s3_account import account_for
    from providers.s3_errors import s3_errors

    try:
        account = account_for(profile, Options(), services(settings))
        with s3_errors(f"list s3://{bucket}"):
            account.client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ProviderError as exc:
        return refused(title, exc)
    return ok(title, f"s3://{bucket} can be listed")


def list_buckets(title: str, profile: Profile, settings: Settings) -> Check:
    """Without a bucket to ask for: the names this credential may see. Many credentials may not ask, and work.

    Raises ImportError without boto3.
    """
    from providers.s3_account import account_for
    from providers.s3_errors import s3_errors

    try:
        account = account_for(profile, Options(), services(settings))
        with s3_errors("list the buckets"):
            found = account.client.list_buckets().get("Buckets", [])
    except ProviderError as exc:
        check = refused(title, exc)
        return fail(title, check.message, f"name an object or bucket to try: s3://BUCKET/KEY; else {check.try_this}")
    return ok(title, f"the credential is accepted; it sees {len(found)} buckets")


def look(title: str, profile: Profile, settings: Settings, location: Location) -> Check:
    """``stat`` of a source: a HEAD, as a transfer does it first."""
    try:
        stat = open_source(location, profile, Options(), services(settings)).stat()
    except ProviderError as exc:
        return refused(title, exc)
    size = "of unknown size" if stat.size_bytes is None else f"of {stat.size_bytes} bytes"
    return ok(title, f"{location.shown} is there, {size}")


def refused(title: str, exc: ProviderError) -> Check:
    """Code and sentence of the error, and what to do about its kind."""
    advice = next((text for kind, text in _ADVICE.items() if isinstance(exc, kind)), "try again")
    return fail(title, f"{exc.code}: {exc}", advice)
