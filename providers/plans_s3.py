"""Presigned plans for an S3 object, made where the credentials are: an application's backend, never a submitter."""

from __future__ import annotations

import time

from providers.base import Options, Profile, Services
from providers.plans import BodyBuilder, SignedPart, SignedRequest
from providers.s3_account import S3Account, account_for
from providers.s3_errors import s3_errors
from providers.schemes import S3_LIMITS, Location


class S3Presigner:
    """Signs requests to one object. An upload is opened by ``open_upload``, and nothing else is asked of the store."""

    limits = S3_LIMITS
    builder: BodyBuilder = "s3"
    first_part_number = 1

    def __init__(self, location: Location, profile: Profile, expires_seconds: int) -> None:
        self._account: S3Account = account_for(profile, Options(), Services())
        self._where = {"Bucket": location.bucket, "Key": location.key}
        self._shown = location.shown
        self._lasts = expires_seconds

    def open_upload(self) -> str:
        with s3_errors(f"create upload of {self._shown}"):
            upload: str = self._account.client.create_multipart_upload(**self._where)["UploadId"]
        return upload

    def part(self, upload: str, index: int, offset: int, size: int) -> SignedPart:
        """RC-118: the id is the number as text."""
        number = index + 1
        ends = time.time() + self._lasts
        url = self._url("upload_part", "PUT", UploadId=upload, PartNumber=number)
        return SignedPart(
            part_number=number,
            provider_part_id=str(number),
            offset=offset,
            size=size,
            url=url,
            expires_at_unix_secs=ends,
        )

    def completion(self, upload: str) -> SignedRequest:
        return self._request("complete_multipart_upload", "POST", UploadId=upload)

    def abortion(self, upload: str) -> SignedRequest | None:
        return self._request("abort_multipart_upload", "DELETE", UploadId=upload)

    def head(self) -> SignedRequest:
        return self._request("head_object", "HEAD")

    def reading(self) -> SignedRequest:
        return self._request("get_object", "GET")

    def _request(self, call: str, method: str, **more: str) -> SignedRequest:
        ends = time.time() + self._lasts
        return SignedRequest(method=method, url=self._url(call, method, **more), expires_at_unix_secs=ends)

    def _url(self, call: str, method: str, **more: str | int) -> str:
        with s3_errors(f"signing for {self._shown}"):
            url: str = self._account.client.generate_presigned_url(
                call, Params={**self._where, **more}, ExpiresIn=self._lasts, HttpMethod=method
            )
        return url
