"""What the OSS stand-in keeps: objects, and uploads with their parts, all in memory, under one lock."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from dataclasses import dataclass, field
from email.utils import formatdate

from fastcrc.crc64 import xz

from tests.servers.oss_server_auth import Refused

MIN_PART_BYTES = 100 << 10
MAX_PARTS = 10_000


@dataclass
class Stored:
    """One object, or one part."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    kind: str = "Normal"
    at: float = field(default_factory=time.time)
    crc: int = 0

    def __post_init__(self) -> None:
        self.crc = xz(self.data)
        self.etag = self.etag or f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest().upper()}"'

    @property
    def last_modified(self) -> str:
        return formatdate(self.at, usegmt=True)


@dataclass
class Upload:
    bucket: str
    key: str
    headers: dict[str, str]
    id: str = field(default_factory=lambda: uuid.uuid4().hex.upper())
    at: float = field(default_factory=time.time)
    parts: dict[int, Stored] = field(default_factory=dict)


class Store:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._uploads: dict[str, Upload] = {}

    def make_bucket(self, name: str) -> None:
        with self._lock:
            self._buckets.setdefault(name, {})

    def check_bucket(self, name: str) -> None:
        self._bucket(name)

    def _bucket(self, name: str) -> dict[str, Stored]:
        found = self._buckets.get(name)
        if found is None:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=name)
        return found

    def get(self, bucket: str, key: str) -> Stored:
        with self._lock:
            found = self._bucket(bucket).get(key)
            if found is None:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.", Key=key)
            return found

    def put(self, bucket: str, key: str, stored: Stored, *, keep: bool = False) -> None:
        with self._lock:
            objects = self._bucket(bucket)
            if keep and key in objects:
                message = "The object you specified already exists and can not be overwritten."
                raise Refused(409, "FileAlreadyExists", message)
            objects[key] = stored

    def delete(self, bucket: str, key: str) -> None:
        with self._lock:
            self._bucket(bucket).pop(key, None)

    # uploads

    def begin(self, bucket: str, key: str, headers: dict[str, str]) -> Upload:
        with self._lock:
            self._bucket(bucket)
            upload = Upload(bucket, key, headers)
            self._uploads[upload.id] = upload
            return upload

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        with self._lock:
            found = self._uploads.get(upload_id)
            if found is None or (found.bucket, found.key) != (bucket, key):
                raise Refused(404, "NoSuchUpload", "The specified upload does not exist.", UploadId=upload_id)
            return found

    def uploads(self, bucket: str) -> list[Upload]:
        with self._lock:
            self._bucket(bucket)
            found = [each for each in self._uploads.values() if each.bucket == bucket]
            return sorted(found, key=lambda each: (each.key, each.id))

    def put_part(self, upload: Upload, number: int, part: Stored) -> None:
        if not 1 <= number <= MAX_PARTS:
            raise Refused(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive.")
        with self._lock:
            self.upload(upload.bucket, upload.key, upload.id)
            upload.parts[number] = part

    def abort(self, upload: Upload) -> None:
        with self._lock:
            self._uploads.pop(upload.id, None)

    def complete(self, upload: Upload, listed: list[tuple[int, str]] | None, *, keep: bool) -> Stored:
        """``listed``: (number, ETag) as they were asked for; None: all there are."""
        with self._lock:
            self.upload(upload.bucket, upload.key, upload.id)
            parts = self._chosen(upload, listed)
            etag = f'"{uuid.uuid4().hex.upper()}-{len(parts)}"'  # it is documented as no hash of the content
            whole = Stored(b"".join(each.data for each in parts), upload.headers, etag, "Multipart")
            self.put(upload.bucket, upload.key, whole, keep=keep)
            del self._uploads[upload.id]
            return whole

    def _chosen(self, upload: Upload, listed: list[tuple[int, str]] | None) -> list[Stored]:
        if listed is None:
            listed = [(number, part.etag) for number, part in sorted(upload.parts.items())]
        if not listed:
            raise Refused(400, "InvalidPart", "No part is named.")
        numbers = [number for number, _ in listed]
        if numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        chosen = []
        for number, etag in listed:
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                message = "One or more of the specified parts could not be found or the ETag does not match."
                raise Refused(400, "InvalidPart", message, PartNumber=str(number))
            chosen.append(part)
        if any(len(part.data) < MIN_PART_BYTES for part in chosen[:-1]):
            raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size.")
        return chosen
