"""One object of an S3 store, and reading it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any
from urllib.parse import quote

from providers.base import Body, ByteRange, ObjectStat, Source, Validator
from providers.errors import InvalidRange, ResponseStatusError
from providers.s3_account import S3Account
from providers.s3_errors import reply_error, s3_errors
from providers.s3_proof import stat_of
from providers.transport import Sign


class S3Object:
    """One key in one bucket, reached by one account."""

    def __init__(self, account: S3Account, bucket: str, key: str) -> None:
        self.account = account
        self.where = {"Bucket": bucket, "Key": key}
        self.shown = f"s3://{bucket}/{key}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown})"

    @cached_property
    def place(self) -> tuple[str, Sign]:
        """The URL without a query, and what signs requests to it. May ask the service for the bucket's region."""
        return self.account.place(self.where["Bucket"], self.where["Key"])

    def head(self) -> Mapping[str, Any]:
        try:
            with s3_errors(f"HEAD {self.shown}"):
                head: Mapping[str, Any] = self.account.client.head_object(**self.where, ChecksumMode="ENABLED")
                return head
        except ResponseStatusError as exc:
            if exc.status in (400, 403):
                self._ask_why()
            raise

    def _ask_why(self) -> None:
        """A HEAD has no body, so an expired token looks like a bad request: a GET of one byte tells them apart."""
        with suppress(InvalidRange), s3_errors(f"GET {self.shown}"):  # 416: it is there, but empty
            self.account.client.get_object(**self.where, Range="bytes=0-0")["Body"].close()


class S3Source(S3Object, Source):
    """Reads ranges of one object, pinned by its version where the bucket keeps versions, else by its ETag."""

    def stat(self) -> ObjectStat:
        return stat_of(self.head(), self.where["Key"])

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        version = f"?versionId={quoted(validator.value)}" if validator.kind == "version" else ""
        url, sign = self.place
        return self.account.transport.get_range(
            url + version,
            span,
            validator=validator,
            sign=sign,
            on_status=lambda reply: reply_error(reply.status, reply.headers, reply.body, what=f"GET {self.shown}"),
            coded=True,  # Content-Encoding is a label of the stored bytes
        )

    def as_copy_source(self, validator: Validator) -> dict[str, Any]:
        """Parameters of a server-side copy that is refused once the source is another object."""
        if validator.kind == "version":
            return {"CopySource": {**self.where, "VersionId": validator.value}}
        pinned = {"CopySourceIfMatch": validator.value} if validator.kind == "etag" else {}
        return {"CopySource": self.where, **pinned}


def quoted(text: str) -> str:
    """As a value in a query that is signed: everything but the unreserved is escaped."""
    return quote(text, safe="-_.~")
