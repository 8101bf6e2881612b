"""The pure table of URL schemes: which roles each can play, its static limits, and how its URL is read.

No SDK is imported here, so that an application that only submits can validate. Installed packages add rows through
the entry point group ``haulage.providers`` (each names a ``Scheme``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from providers.base import MIB, PartLimits
from providers.errors import InvalidValue, UnknownScheme

_QUERY = re.compile(r"\?[\w.~%+-]+=[^\s'\"<>)]*")
_CREDENTIAL = re.compile(r"(authorization\W{1,5})[^'\"]+", re.IGNORECASE)

Role = Literal["source", "destination"]
GIB = 1 << 30

S3_LIMITS = PartLimits(min_part_bytes=5 * MIB, max_part_bytes=5 * GIB, max_parts=10_000, max_object_bytes=50 << 40)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
OSS_LIMITS = PartLimits(
    min_part_bytes=100 << 10, max_part_bytes=5 * GIB, max_parts=10_000, max_object_bytes=10_000 * 5 * GIB
)
"""https://www.alibabacloud.com/help/en/oss/user-guide/limits"""
AZURE_LIMITS = PartLimits(max_part_bytes=4000 * MIB, max_parts=50_000, max_object_bytes=50_000 * 4000 * MIB)
"""https://learn.microsoft.com/azure/storage/blobs/scalability-targets"""
LOCAL_LIMITS = PartLimits(max_parts=1_000_000)
MEMORY_LIMITS = PartLimits(max_parts=10_000, max_object_bytes=16 * MIB)
SINGLE_PUT_LIMITS = PartLimits(max_parts=1)
CHUNKED_LIMITS = PartLimits(sequential=True)
PRESIGNED_LIMITS = PartLimits(max_parts=1_000_000)
"""The plan is made for a store, whose limits its maker knows."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row: ``module`` holds ``source(...)`` and/or ``destination(...)``, imported when first used."""

    name: str
    module: str
    roles: frozenset[Role]
    extra: str
    limits: PartLimits
    kind: Literal["path", "http", "bucket", "name"]


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URL. ``url`` may hold a signed query: it never shows in a repr; ``shown`` is safe to print."""

    scheme: Scheme = field(repr=False)
    url: str = field(repr=False)
    shown: str
    host: str = ""
    bucket: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    """The object's key, the absolute local path, or the name of a ``mem:`` string; decoded."""

    @property
    def identity(self) -> str:
        """Hash that is equal for equal destinations, whatever their query; safe to store and to log."""
        parts = urlsplit(self.url)
        plain = f"{self.scheme.name}\0{self.host or parts.netloc.lower()}\0{self.bucket}\0{self.key or parts.path}"
        return hashlib.sha256(plain.encode(errors="surrogateescape")).hexdigest()[:32]


_BOTH: frozenset[Role] = frozenset({"source", "destination"})
_TO: frozenset[Role] = frozenset({"destination"})
_BUILT_IN = (
    Scheme("file", "providers.local", _BOTH, "worker", LOCAL_LIMITS, "path"),
    Scheme("mem", "providers.memory", _BOTH, "worker", MEMORY_LIMITS, "name"),
    Scheme("http", "providers.http", _BOTH, "worker", SINGLE_PUT_LIMITS, "http"),
    Scheme("https", "providers.http", _BOTH, "worker", SINGLE_PUT_LIMITS, "http"),
    Scheme("chunked+http", "providers.chunked_http", _TO, "worker", CHUNKED_LIMITS, "http"),
    Scheme("chunked+https", "providers.chunked_http", _TO, "worker", CHUNKED_LIMITS, "http"),
    Scheme("presigned+http", "providers.presigned", _BOTH, "clouds", PRESIGNED_LIMITS, "http"),
    Scheme("presigned+https", "providers.presigned", _BOTH, "clouds", PRESIGNED_LIMITS, "http"),
    Scheme("s3", "providers.s3", _BOTH, "s3", S3_LIMITS, "bucket"),
    Scheme("oss", "providers.oss", _BOTH, "oss", OSS_LIMITS, "bucket"),
    Scheme("azblob", "providers.azure", _BOTH, "azure", AZURE_LIMITS, "bucket"),
)


@cache
def schemes() -> Mapping[str, Scheme]:
    """All rows by name. An installed row may add a scheme, not replace a built-in one."""
    table = {row.name: row for row in _BUILT_IN}
    for point in entry_points(group="haulage.providers"):
        row = point.load()
        table.setdefault(row.name, row)
    return table


def parse(url: str, role: Role, *, field_name: str = "", local_host: str = "") -> Location:
    """Read a URL or a plain path. A path means the submitter's host. Raises UnknownScheme, InvalidValue.

    ``field_name`` is how an error names the value; by default the role.
    """
    field_name = field_name or role
    if not isinstance(url, str) or not url.strip():
        raise InvalidValue(field_name, url, "a URL or a path")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in url):
        raise InvalidValue(field_name, redact(url), "no control characters")
    try:
        url.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise InvalidValue(field_name, ascii(url), "text that can be encoded in UTF-8") from None
    head, colon, _ = url.partition(":")
    if not colon or "/" in head or len(head) == 1:
        return _path(url, field_name, local_host)
    row = schemes().get(head.lower())
    if row is None or role not in row.roles:
        listed = (name for name, each in schemes().items() if role in each.roles and "presigned" not in name)
        allowed = ", ".join(sorted(listed))  # a plan is no URL that one could write
        raise UnknownScheme(field_name, f"{head.lower()}:", f"as {role} one of {allowed}")
    reader = {"path": _file_url, "http": _http_url, "bucket": _bucket_url, "name": _name_url}[row.kind]
    return reader(row, url, field_name, local_host)


def redact(url: str) -> str:
    """The URL without what may be secret: user info, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    if not parts.scheme:
        return parts.path
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host or parts.scheme != "mem" else f"mem:{parts.path}"


def safe_text(text: str) -> str:
    """The last net below every provider's own care: whatever looks like a URL loses its query and user info.

    So does the path of one: HTTP libraries name requests as ``url: /bucket/key?X-Amz-Signature=...``.
    """
    words = [redact(word) if "://" in word else word for word in text.split(" ")]
    return _CREDENTIAL.sub(r"\1(hidden)", _QUERY.sub("?(hidden)", " ".join(words)))[:500]


def _path(path: str, field_name: str, local_host: str) -> Location:
    if not path.startswith("/"):
        raise InvalidValue(field_name, path, "an absolute path, or a URL with a scheme")
    return _local(schemes()["file"], local_host, path, field_name)


def _file_url(row: Scheme, url: str, field_name: str, local_host: str) -> Location:
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise InvalidValue(field_name, redact(url), "a file URL without ? and #; write them as %3F and %23")
    host = "" if parts.netloc == "localhost" else parts.netloc
    return _local(row, host or local_host, unquote(parts.path, errors="surrogateescape"), field_name)


def _local(row: Scheme, host: str, path: str, field_name: str) -> Location:
    """Names of files are bytes: what is not UTF-8 travels percent-encoded and is shown with a replacement character."""
    if not path.startswith("/"):
        raise InvalidValue(field_name, path, "an absolute path")
    if "\0" in path or ".." in path.split("/"):
        raise InvalidValue(field_name, path, "a path without '..' and without NUL")
    shown = path.encode(errors="surrogateescape").decode(errors="replace")
    return Location(
        row, f"file://{host}{quote(path, errors='surrogateescape')}", f"file://{host}{shown}", host=host, key=path
    )


def _http_url(row: Scheme, url: str, field_name: str, local_host: str) -> Location:
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        raise InvalidValue(field_name, redact(url), "a URL with a valid host and port") from None
    if not parts.hostname or not port_is_fine:
        raise InvalidValue(field_name, redact(url), "a URL with a host, such as https://host/path")
    if parts.username or parts.password:
        raise InvalidValue(field_name, redact(url), "no user:password in the URL; put credentials into a profile")
    if row.name.startswith("chunked+"):
        return _upload_address(row, url, field_name)
    return Location(row, url, redact(url), host=parts.netloc.lower(), key=parts.path or "/")


def _upload_address(row: Scheme, url: str, field_name: str) -> Location:
    """One address takes many files in: the fragment, which is never sent, names the file.

    Without one the source decides on the name, as in a folder: such a URL ends with ``#/``.
    """
    address, _, fragment = url.partition("#")
    folder = fragment in ("", "/")
    url = f"{address}#/" if folder else url
    name = unquote(fragment.removeprefix("/"))
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in name):
        raise InvalidValue(field_name, redact(url), "a file name without control characters")
    parts = urlsplit(address)
    shown = f"{redact(address)}#{'/' if folder else name}"
    return Location(row, url, shown, host=parts.netloc.lower(), bucket=parts.path or "/", key="/" if folder else name)


def _bucket_url(row: Scheme, url: str, field_name: str, local_host: str) -> Location:
    bucket, _, key = url.partition("://")[2].partition("/")
    if "://" not in url or not bucket:
        raise InvalidValue(field_name, redact(url), f"{row.name}://bucket/key")
    if not key:
        raise InvalidValue(field_name, redact(url), f"{row.name}://bucket/key: the key is missing")
    if len(key.encode()) > 1024:
        raise InvalidValue(field_name, redact(url)[:80], "a key of at most 1024 bytes in UTF-8")
    if "@" in bucket or ":" in bucket:
        raise InvalidValue(field_name, f"{row.name}://...", "a bucket name without credentials or port")
    return Location(row, url, url, bucket=bucket, key=key)


def _name_url(row: Scheme, url: str, field_name: str, local_host: str) -> Location:
    name = url.partition(":")[2].lstrip("/")
    if not name or len(name) > 512:
        raise InvalidValue(field_name, url[:80], "mem:NAME with a name of 1 to 512 characters")
    return Location(row, url, f"mem:{name}", key=name)
