"""Places that are presigned plans: checked before any I/O, named without a secret, and kept apart from the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InvalidSpec
from providers.errors import InvalidValue
from providers.plans import PresignedDownload, PresignedPlan, PresignedUpload
from providers.presigned_texts import texts_of

PREFIX = "presigned+"
_ROLE = {"source": PresignedDownload, "destination": PresignedUpload}


def plans_in(source: object, destination: object, options: Mapping[str, Any]) -> dict[str, PresignedPlan]:
    """The plans among both places, by role. Raises InvalidSpec that names the field."""
    found: dict[str, PresignedPlan] = {}
    for role, value in (("source", source), ("destination", destination)):
        if isinstance(value, str) and value.lower().startswith(PREFIX):
            raise InvalidSpec(role, value.partition("?")[0], f"a {_ROLE[role].__name__}; its name alone says nothing")
        if not isinstance(value, PresignedUpload | PresignedDownload):
            continue
        if not isinstance(value, _ROLE[role]):
            raise InvalidSpec(role, type(value).__name__, f"a {_ROLE[role].__name__}")
        found[role] = _checked(role, value, options)
    return found


def name_of(plan: PresignedPlan) -> str:
    """What the spec says in its place: host and path of the object. A slash at its end would mean a folder."""
    return f"{PREFIX}{plan.shown.rstrip('/')}"


def fixed_options(plans: Mapping[str, PresignedPlan], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options a plan leaves no choice in: its grid is the transfer's. Raises InvalidSpec for another wish (RC-93)."""
    fixed: dict[str, Any] = {}
    upload, download = plans.get("destination"), plans.get("source")
    if isinstance(download, PresignedDownload) and download.total_size is not None:
        fixed["size_bytes"] = download.total_size
    if isinstance(upload, PresignedUpload):
        if fixed.get("size_bytes", upload.total_size) != upload.total_size:
            raise InvalidSpec("destination.total_size", upload.total_size, f"{fixed['size_bytes']}, as the source has")
        fixed |= {"size_bytes": upload.total_size, "part_size": upload.chunk_size}
    for name, value in fixed.items():
        if options.get(name) not in (None, value):
            raise InvalidSpec(name, options[name], f"{value}, as the plan says")
    return fixed


def stored_texts(plans: Mapping[str, PresignedPlan]) -> dict[str, str]:
    """What the ledger keeps of them."""
    return {name: text for plan in plans.values() for name, text in texts_of(plan).items()}


def _checked(role: str, plan: PresignedPlan, options: Mapping[str, Any]) -> PresignedPlan:
    try:
        plan.check()
    except InvalidValue as exc:
        raise InvalidSpec(f"{role}.{exc.field}", exc.value, exc.allowed) from None
    if plan.signer is not None and plan.signer.url is not None and not options.get(f"{role}_profile"):
        raise InvalidSpec(f"{role}_profile", None, "the profile whose signer_key signs the requests to signer.url")
    return plan
