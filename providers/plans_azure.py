"""Presigned plans for an Azure blob, by SAS, made where the account's key is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from azure.storage.blob import BlobSasPermissions, generate_blob_sas

from providers.azure import AzureDestination
from providers.azure_account import account_for, credential_of
from providers.azure_blocks import block_id
from providers.azure_errors import azure_errors
from providers.base import Options, Profile, Services, UploadPlan
from providers.errors import InvalidValue
from providers.plans import BodyBuilder, SignedPart, SignedRequest
from providers.schemes import AZURE_LIMITS, Location


class AzurePresigner:
    """As ``S3Presigner``. The upload is a name in the ids of its blocks; parts count from 0, as blocks do."""

    limits = AZURE_LIMITS
    builder: BodyBuilder = "azure"
    first_part_number = 0

    def __init__(self, location: Location, profile: Profile, expires_seconds: int) -> None:
        self._account = account_for(profile, Options(), Services())
        self._credential = credential_of(profile)
        if not self._credential.key:
            raise InvalidValue("profile", profile.name, "one with the account's key: a SAS cannot sign another")
        self._location = location
        self._url = self._account.url(location.bucket, location.key)
        self._lasts = expires_seconds

    def open_upload(self) -> str:
        """Asks which ids wait at the blob already: all must have one length."""
        blob = AzureDestination(self._account, self._location.bucket, self._location.key, Options())
        return str(blob.create_upload(UploadPlan(2, 1, 2)))

    def part(self, upload: str, index: int, offset: int, size: int) -> SignedPart:
        """RC-127: Put Block."""
        name = block_id(index, upload)
        sas, ends = self._sas(BlobSasPermissions(create=True, write=True))
        return SignedPart(
            part_number=index,
            provider_part_id=name,
            offset=offset,
            size=size,
            url=f"{self._url}?comp=block&blockid={quote(name, safe='')}&{sas}",
            expires_at_unix_secs=ends,
        )

    def completion(self, upload: str) -> SignedRequest:
        """Put Block List; repeated, it finds the blocks it committed."""
        sas, ends = self._sas(BlobSasPermissions(create=True, write=True))
        return SignedRequest(
            method="PUT",
            url=f"{self._url}?comp=blocklist&{sas}",
            headers={"Content-Type": "application/xml"},
            expires_at_unix_secs=ends,
        )

    def abortion(self, upload: str) -> SignedRequest | None:
        """None: blocks that are not committed expire, and to delete the blob could meet somebody's."""
        return None

    def head(self) -> SignedRequest:
        return self._request("HEAD")

    def reading(self) -> SignedRequest:
        return self._request("GET")

    def _request(self, method: str) -> SignedRequest:
        sas, ends = self._sas(BlobSasPermissions(read=True))
        return SignedRequest(method=method, url=f"{self._url}?{sas}", expires_at_unix_secs=ends)

    def _sas(self, permission: BlobSasPermissions) -> tuple[str, float]:
        """A SAS ends at a whole second."""
        ends = (datetime.now(UTC) + timedelta(seconds=self._lasts)).replace(microsecond=0)
        with azure_errors("signing"):
            sas = generate_blob_sas(
                self._credential.account,
                self._location.bucket,
                self._location.key,
                account_key=self._credential.key,
                permission=permission,
                expiry=ends,
            )
        return sas, ends.timestamp()
