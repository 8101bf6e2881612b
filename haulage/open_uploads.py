"""Uploads that are open at stores: those the ledger knows, those it does not, and how one is dropped."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from haulage.doctor.try_profile import services
from orchestrator.errors import InvalidSpec, InvalidState, TransferNotFound
from orchestrator.ledger import Ledger
from orchestrator.records import Record
from orchestrator.selection import Selection
from orchestrator.settings import Settings
from orchestrator.spec import inside_folder
from orchestrator.states import State
from providers.base import Destination, ListsSessions, Options, Profile, UploadId
from providers.errors import InvalidValue, ProviderUnavailable
from providers.registry import open_destination
from providers.schemes import Location, parse, redact

_NOT_OVER = tuple(each for each in State if not each.final)
_NO_LIST = {
    "azblob": "Azure has no list of them; blocks that nobody commits belong to no upload and go after a week",
    "file": "what is unfinished there is a file .NAME.TOKEN.haulage beside its final name",
}


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """``known``: the ledger has it, or a transfer that is not over writes to this very object.

    ``state`` is that of the transfer: ``gone`` once its record has expired. ``opened_at`` is unix time; by a store's
    clock where a store was asked.
    """

    upload_id: str
    destination: str
    opened_at: float
    known: bool = True
    transfer_id: str = ""
    state: str = ""

    @property
    def age_seconds(self) -> float:
        return max(0.0, time.time() - self.opened_at)


def in_ledger(ledger: Ledger) -> list[OpenUpload]:
    """All the ledger knows, oldest first."""
    booked = ledger.sessions()
    states = {each.transfer_id: str(each.state) for each in ledger.records(list(booked))}
    found = [_booked(id_, what, states.get(id_, "gone")) for id_, what in booked.items()]
    return sorted(found, key=lambda each: each.opened_at)


def _booked(transfer_id: str, what: dict[str, Any], state: str) -> OpenUpload:
    opened_at = float(what.get("opened_at") or time.time())
    destination = str(what.get("destination", ""))
    return OpenUpload(str(what.get("upload", "")), destination, opened_at, True, transfer_id, state)


class StorePrefix:
    """A prefix of a bucket, seen through a profile of this machine. Nothing is asked before it is needed."""

    def __init__(self, settings: Settings, url: str, profile: str | None) -> None:
        """Raises InvalidValue for a place that has no list of open uploads, InvalidSpec for an unknown profile."""
        self._settings = settings
        self._at = _prefix_of(url)
        self._profile = profile_of(settings, profile, self._at)

    def uploads(self, ledger: Ledger) -> list[OpenUpload]:
        """What the store holds, by key and age. Raises LedgerCorrupt where a transfer's destination cannot be read.

        The store is asked first: what a transfer opens after that is not in the list, and what it opened before is by
        then in the ledger, or belongs to a transfer that writes to this object.
        """
        destination = open_destination(self._at, self._profile, Options(), services(self._settings))
        if not isinstance(destination, ListsSessions):
            raise _no_list(self._at.scheme.name, self._at.shown)
        held = destination.list_sessions(self._at.key)
        writers = _writers(ledger, self._at)
        booked = {each.upload_id: each for each in in_ledger(ledger)}
        found = [self._seen(key, upload, at, booked.get(upload), writers.get(key)) for key, upload, at in held]
        return sorted(found, key=lambda each: (each.destination, each.opened_at))

    def _seen(
        self, key: str, upload: UploadId, at: float, booked: OpenUpload | None, writer: Record | None
    ) -> OpenUpload:
        destination = f"{self._at.scheme.name}://{self._at.bucket}/{key}"
        if booked is not None:
            return OpenUpload(upload, destination, at, True, booked.transfer_id, booked.state)
        if writer is not None:
            return OpenUpload(upload, destination, at, True, writer.transfer_id, str(writer.state))
        return OpenUpload(upload, destination, at, False)

    def drop(self, upload: OpenUpload) -> None:
        """Abort it. One that is gone counts as aborted. Raises ProviderError."""
        key = upload.destination.partition("://")[2].partition("/")[2]
        at = replace(self._at, key=key, shown=upload.destination, url=upload.destination)
        _drop(self._settings, at, self._profile, upload.upload_id)


def drop_ended(
    settings: Settings, ledger: Ledger, transfer_id: str, profile: str | None, *, really: bool
) -> OpenUpload:
    """Abort what a transfer left that is over for good (``keep_partial``, or a clean-up that never succeeded).

    Raises InvalidState for one that is not over, TransferNotFound where the ledger knows no upload of it.
    """
    found = next((each for each in in_ledger(ledger) if each.transfer_id == transfer_id), None)
    if found is None:
        raise TransferNotFound(f"the ledger knows no open upload of {transfer_id}")
    if found.state != "gone" and not State(found.state).final:
        what_to_do = f"`haulage cancel {transfer_id}` ends it and aborts its upload"
        raise InvalidState(f"transfer {transfer_id} is {found.state} and needs its upload: {what_to_do}")
    scheme = found.destination.partition(":")[0]
    if not found.destination.startswith(("s3://", "oss://", "azblob://")):
        raise InvalidValue("transfer", f"{scheme}:", "one whose upload a bucket holds")
    at = parse(found.destination, "destination")
    if profile is None and found.state != "gone":
        profile = ledger.record(transfer_id).spec.destination_profile
    resolved = profile_of(settings, profile, at)
    if really:
        _drop(settings, at, resolved, found.upload_id)
        ledger.forget_session(transfer_id)
    return found


def profile_of(settings: Settings, name: str | None, at: Location) -> Profile:
    """As workers resolve it: the named one, else the one called like the scheme. Raises InvalidSpec."""
    try:
        found = settings.profile(name or at.scheme.name)
    except OSError as exc:
        reason = f"a secret file of profile {name or at.scheme.name!r} cannot be read: {exc.strerror}"
        raise ProviderUnavailable(reason) from None
    if found is None and name is not None:
        known = ", ".join(settings.profile_names()) or "none is configured"
        raise InvalidSpec("profile", name, f"a profile of this machine: {known}")
    return found or Profile(at.scheme.name)


def _prefix_of(url: str) -> Location:
    """``s3://bucket`` and ``s3://bucket/`` mean all of the bucket."""
    bucket, _, key = url.partition("://")[2].partition("/")
    at = parse(url if key or not bucket else f"{url.rstrip('/')}/-", "destination", field_name="prefix")
    if at.scheme.kind != "bucket" or at.scheme.name in _NO_LIST:
        raise _no_list(at.scheme.name, redact(url))
    return at if key else replace(at, key="", url=url, shown=url)


def _no_list(scheme: str, shown: str) -> InvalidValue:
    why = _NO_LIST.get(scheme, "no other place has a list of them")
    return InvalidValue(
        "prefix", shown, f"s3://bucket/prefix or oss://bucket/prefix, whose open uploads can be listed; {why}"
    )


def _writers(ledger: Ledger, at: Location) -> dict[str, Record]:
    """Key -> the transfer that is not over and writes to it: it may have an upload that is not booked yet."""
    found: dict[str, Record] = {}
    for row in Selection.of(state=_NOT_OVER).rows(ledger):
        found |= dict.fromkeys(_keys(row[0], at.bucket), row[0])
    return found


def _keys(record: Record, bucket: str) -> list[str]:
    """Keys of ``bucket`` that it may write to. A presigned plan tells a path only: with the bucket in it or not."""
    url = record.spec.destination
    if url.startswith("presigned+"):
        path = unquote(urlsplit(url).path)
        return [path.removeprefix("/"), path.partition(f"/{bucket}/")[2]]
    return [_lands(record).key] if f"://{bucket}/" in url else []


def _lands(record: Record) -> Location:
    at = parse(record.spec.destination, "destination")
    name = record.fields.get("dest_name")
    return inside_folder(at, name) if name and at.url.endswith("/") else at


def _drop(settings: Settings, at: Location, profile: Profile, upload_id: str) -> None:
    destination: Destination = open_destination(at, profile, Options(), services(settings))
    destination.abort_upload(UploadId(upload_id))
