"""One object of Aliyun OSS, and reading it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from providers.base import Body, ByteRange, ObjectStat, Source, Validator
from providers.errors import ProviderError, ServerFault
from providers.oss_account import OssAccount
from providers.oss_errors import oss_errors, reply_error
from providers.oss_proof import stat_of
from providers.reply import Reply
from providers.transport import Sign

_CHECKED = {"x-oss-range-behavior": "standard"}
"""Without it a range that makes no sense is answered by the whole object, with status 200."""


class OssObject:
    """One key in one bucket, reached by one account."""

    def __init__(self, account: OssAccount, bucket: str, key: str) -> None:
        self.account = account
        self.bucket_name = bucket
        self.key = key
        self.shown = f"oss://{bucket}/{key}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown})"

    @cached_property
    def bucket(self) -> Any:
        return self.account.bucket(self.bucket_name)

    @cached_property
    def patient_bucket(self) -> Any:
        """For the calls that the service answers late."""
        return self.account.bucket(self.bucket_name, patient=True)

    @cached_property
    def place(self) -> tuple[str, Sign]:
        """The URL without a query, in the style the SDK chooses for the endpoint, and what signs requests to it."""
        url = self.bucket._make_url(self.bucket_name, self.key, slash_safe=True)
        return url, self.account.signer(self.bucket_name, self.key)

    def head(self) -> Mapping[str, str]:
        """The head of a reply to HEAD: a refusal is explained there too. Raises NotFound, Forbidden."""
        with oss_errors(f"HEAD {self.shown}"):
            headers: Mapping[str, str] = self.bucket.head_object(self.key).headers
            return headers

    def refused(self, reply: Reply, what: str) -> ProviderError:
        """What a failed data request means. One that was refused for our clock succeeds when it is repeated."""
        if self.account.learn_clock(reply):
            return ServerFault(f"{what}: this machine's clock is off; to be signed by the service's", status=403)
        return reply_error(reply, what=what)


class OssSource(OssObject, Source):
    """Reads ranges of one object, pinned by its ETag."""

    def stat(self) -> ObjectStat:
        return stat_of(self.head(), self.key)

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        known_error = self.account.clock_error
        try:
            return self._open(span, validator)
        except ServerFault:
            if self.account.clock_error == known_error:
                raise
        return self._open(span, validator)

    def _open(self, span: ByteRange, validator: Validator) -> Body:
        url, sign = self.place
        return self.account.transport.get_range(
            url,
            span,
            headers=_CHECKED,
            validator=validator,
            sign=sign,
            coded=True,
            on_status=lambda reply: self.refused(reply, f"GET {self.shown}"),
        )

    def copy_headers(self, validator: Validator) -> dict[str, str]:
        """A server-side copy that is refused once the source is another object."""
        return {"x-oss-copy-source-if-match": validator.value} if validator.kind == "etag" else {}


def quoted(text: str) -> str:
    """As a value in a query that is signed: everything but the unreserved is escaped."""
    return quote(text, safe="-_.~")
