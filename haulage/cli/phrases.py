"""Which limit or fault holds a transfer: one phrase for a person. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from haulage.cli.output import human_bytes, human_seconds, printable
from orchestrator.states import State

if TYPE_CHECKING:
    from haulage.cli.closer import Details
    from orchestrator.views import Transfer

FRESH_SECONDS = 5.0
"""A part that failed this recently is worth telling about."""

_WAITS = {
    "throttled": "throttled by {where}",
    "disk_full": "the disk of the destination is full",
    "credential": "the credential ran out, renew it",
    "signer": "who signs its requests does not answer",
    "provider": "its workers cannot use this storage",
    "schema": "its workers run an older version",
}
_PREFIX = re.compile(r"^((GET|HEAD|PUT|POST)\b[ :]*)?(\w+(Error|Exception): (?=\S))?")
_URL = re.compile(r"\S*?\w+://\S+")
_OF_URL = re.compile(r"( of)? *\S*?\w+://\S+?(?=:?(\s|$))")
_NO_CREDENTIALS = "Unable to locate credentials"
"""As the SDK of S3 says it."""
_LOST = "whoever moved it died or lost touch"


def phrase(
    transfer: Transfer, details: Details, fault: Mapping[str, Any] | None = None, *, embedded: bool = False
) -> str:
    """Empty while bytes simply move. ``fault``: a step that failed just now, as events and history describe it.

    ``embedded``: this machine's engine does the work.
    """
    if transfer.reason == "no_worker":
        by_hand = "no worker serves its queue: start one with `haulage worker`"
        return "the engine starts its worker" if embedded else by_hand
    match transfer.state:
        case State.QUEUED:
            return _queued(transfer)
        case State.PREPARING:
            return _again("looking at the source", fault, details)
        case State.WAITING:
            missing = _credentials(transfer) if embedded else ""  # of a fleet, only who runs its workers can set them
            return (missing or "waiting: " + _waiting(transfer)) + _next_try(details)
        case State.RUNNING if fault:
            part = f" part {fault['part']}" if fault.get("part") else ""
            return f"retrying{part}: {short_message(fault)}"
        case State.RUNNING if not details.parts:
            return "waiting for a free worker" + _next_try(details)
        case State.COMPLETING:
            return _completing(transfer, details, fault)
        case State.PAUSED:
            return "paused" + (", its last parts are handed back" if details.parts else "")
    return ""


def short_message(error: Mapping[str, Any]) -> str:
    """The message of an error without URLs, which are on the screen already."""
    text = _OF_URL.sub("", str(error.get("message", ""))).strip(" :")
    text = _PREFIX.sub("", text)
    code = str(error.get("code", "unknown fault"))
    return printable(text or (_LOST if code == "lease_lost" else code))


def _queued(transfer: Transfer) -> str:
    return "queued until its time has come" if transfer.reason == "not_before" else "queued: waits for a free slot"


def _again(doing: str, fault: Mapping[str, Any] | None, details: Details) -> str:
    if not fault and details.wakes_in_seconds < 0.5:
        return doing
    return f"{doing} again: {short_message(fault)}" + _next_try(details) if fault else doing + _next_try(details)


def _waiting(transfer: Transfer) -> str:
    where = _host(str(transfer.error.get("message", ""))) or _host(transfer.source) or "the storage"
    text = _WAITS.get(transfer.reason, transfer.reason or "something must be mended").format(where=where)
    message = short_message(transfer.error)
    return text if transfer.reason == "throttled" or not transfer.error else f"{text} ({message})"


def _credentials(transfer: Transfer) -> str:
    """What to set where a storage has no credentials at all; first what fits into a narrow line."""
    message = str(transfer.error.get("message", ""))
    if _NO_CREDENTIALS not in message:
        return ""
    named = _URL.search(message)
    about_source = transfer.source.startswith("s3:") and not transfer.destination.startswith("s3:")
    is_source = named[0].rstrip(":") == transfer.source if named else about_source
    end, scheme = ("source", transfer.source) if is_source else ("destination", transfer.destination)
    scheme = scheme.partition(":")[0]
    names = f"HAULAGE_PROFILE_{scheme.upper()}__ACCESS_KEY and __SECRET_KEY"
    return f"no credentials for {scheme}: set --{end}-profile or {names}, then run it again"


def _completing(transfer: Transfer, details: Details, fault: Mapping[str, Any] | None) -> str:
    checked = details.held.get("fin", ("", 0))[1]
    if checked:
        return f"verifying: {human_bytes(checked)} of {human_bytes(transfer.progress.total_bytes)} read again"
    return _again("committing", fault, details)


def _next_try(details: Details) -> str:
    seconds = details.wakes_in_seconds
    if seconds < 0.5:
        return ""
    return f", next try in {seconds:.0f} s" if seconds < 100 else f", next try in {human_seconds(seconds)}"


def _host(text: str) -> str:
    found = _URL.search(text)
    return printable(urlsplit(found[0].strip("'\"():,")).netloc.rpartition("@")[2]) if found else ""


def ago(unix_seconds: float | None) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``2 d``: how long ago."""
    if unix_seconds is None:
        return "-"
    seconds = max(0.0, time.time() - unix_seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
