"""Signed requests of one transfer at hand: read from where they are kept, and signed anew shortly before they end.

What is handed out is one snapshot: URL, headers and lifetime belong together. Signing anew happens once in the whole
fleet: whoever comes second finds what the first one wrote.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import ValidationError

from providers.base import Profile, Services, SignedPlans
from providers.errors import CredentialExpired, InvalidValue, ProviderUnavailable, SignerRefused, SignerUnavailable
from providers.plans import (
    PAGE_PARTS,
    PresignedDownload,
    PresignedUpload,
    SignedPart,
    SignedRequest,
    Signer,
    refused,
)
from providers.presigned_texts import ASKED, DESTINATION, SOURCE, Page, head_of, page_name, page_of
from providers.signer import SignerCalls

_KEPT_PAGES = 4
RequestName = Literal["complete_request", "abort_request", "head_request"]
Reason = Literal["missing", "expiring", "refused"]
_LOST = "nothing is kept of its presigned plan any more: give it anew"


class _Signed:
    """What uploads and downloads share."""

    def __init__(
        self, transfer_id: str, profile: Profile, services: Services, *, clock: Callable[[], float] = time.time
    ) -> None:
        if services.plans is None:
            raise ProviderUnavailable("this process keeps no presigned plans")
        self._plans: SignedPlans = services.plans
        self._id = transfer_id
        self._profile = profile
        self._services = services
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[int, Page] = {}

    def _read(self, name: str) -> str | None:
        return self._plans.read(self._id, [name])[0]

    def _write(self, name: str, text: str) -> None:
        self._plans.write(self._id, {name: text})

    def _ask(self, signer: Signer, asks: Mapping[str, Any]) -> dict[str, Any]:
        call = SignerCalls(signer, self._profile, self._services)
        return call({"version": 1, "transfer_id": self._id, **asks})

    def _has_ended(self, expires: float | None) -> bool:
        return expires is not None and self._clock() >= expires

    def _is_ending(self, expires: float | None, before_seconds: float) -> bool:
        return expires is not None and self._clock() + before_seconds >= expires


class SignedUpload(_Signed):
    """The requests of an upload plan. Thread-safe."""

    def head(self) -> PresignedUpload:
        """The plan without its parts, as it is now. Raises CredentialExpired when it is gone."""
        text = self._read(DESTINATION)
        if text is None:
            raise CredentialExpired(_LOST)
        return head_of(text)

    def part(self, head: PresignedUpload, index: int) -> SignedPart:
        """A request that is good now. Raises CredentialExpired, SignerUnavailable, SignerRefused."""
        known = self._cached(page_of(index)).parts.get(index)
        if known and not self._is_ending(known.expires_at_unix_secs, head.refresh_before_secs):
            return known
        found = self._renewed_part(index, None)
        assert found is not None  # noqa: S101  # None answers a refusal only
        return found

    def after_refusal(self, index: int, part: SignedPart) -> SignedPart | None:
        """Another request in place of one the store refused, once; None when the refusal counts."""
        return self._renewed_part(index, part)

    def store_ids(self, head: PresignedUpload) -> list[tuple[int, str | None]]:
        """(number, id) of every part at the store, in order."""
        resumed = dict(head.resumed())
        found: list[tuple[int, str | None]] = []
        for number in range(page_of(head.part_count - 1) + 1):
            page = Page.load(self._read(page_name(number)))
            for index in range(number * PAGE_PARTS, min((number + 1) * PAGE_PARTS, head.part_count)):
                part, old = page.parts.get(index), resumed.get(index)
                if part is not None:
                    found.append((part.part_number, part.provider_part_id))
                elif old is not None and old.part_number is not None:
                    found.append((old.part_number, old.provider_part_id))
                else:
                    found.append((head.number(index), old.provider_part_id if old else None))
        return found

    def request(self, name: RequestName, unlike: SignedRequest | None = None) -> SignedRequest | None:
        """The named request, good now; ``unlike`` one that was refused. None: the plan has none, or no other."""
        head = self.head()
        request: SignedRequest | None = getattr(head, name)
        if request is None:
            return None
        if unlike is None and not self._is_ending(request.expires_at_unix_secs, head.refresh_before_secs):
            return request
        if unlike is not None and request.url != unlike.url:
            return request
        if head.signer is None:
            if unlike is None and self._has_ended(request.expires_at_unix_secs):
                raise CredentialExpired(f"{head.shown}: the {name} of the plan ran out, and nobody signs it anew")
            return request if unlike is None else None
        return self._renewed_request(name, unlike)

    def has_page(self, number: int) -> bool:
        """Whether any part of this page was signed."""
        return bool(self._cached(number).parts)

    def asked(self) -> int:
        """How often the completion was sent and no answer was heard."""
        return int(self._read(ASKED) or 0)

    def note_asked(self, times: int) -> None:
        self._write(ASKED, str(times))

    def _cached(self, number: int) -> Page:
        with self._lock:
            if number not in self._pages:
                self._keep(number, Page.load(self._read(page_name(number))))
            return self._pages[number]

    def _keep(self, number: int, page: Page) -> None:
        self._pages[number] = page
        while len(self._pages) > _KEPT_PAGES:
            del self._pages[next(each for each in self._pages if each != number)]

    def _renewed_part(self, index: int, rejected: SignedPart | None) -> SignedPart | None:
        number = page_of(index)
        with self._lock, self._plans.lock(self._id, page_name(number)) as is_alone:
            head, page = self.head(), Page.load(self._read(page_name(number)))
            self._keep(number, page)
            part = page.parts.get(index)
            is_other = part is not None and (rejected is None or part.url != rejected.url)
            if part and is_other and not self._is_ending(part.expires_at_unix_secs, head.refresh_before_secs):
                return part
            usable = part if part and is_other and not self._has_ended(part.expires_at_unix_secs) else None
            if head.signer is None:
                if usable is None and rejected is not None and not self._has_ended(rejected.expires_at_unix_secs):
                    return None
                if usable is None:
                    raise CredentialExpired(f"{head.shown}: the URL of part {index + 1} ran out")
                return usable
            if part and rejected and index in page.refused and not self._has_ended(part.expires_at_unix_secs):
                return None
            reason: Reason = "refused" if rejected else "expiring" if part else "missing"
            try:
                if not is_alone:
                    raise SignerUnavailable("another worker waits for the signer")
                page = self._sign_parts(head, head.signer, page, index, reason)
            except SignerUnavailable:
                if usable is None:
                    raise
                return usable
            self._write(page_name(number), page.dump())
            self._keep(number, page)
            return page.parts[index]

    def _sign_parts(self, head: PresignedUpload, signer: Signer, page: Page, index: int, reason: Reason) -> Page:
        """Sign this part and, in the same call, those after it in its page that need it too."""
        last = min(head.part_count, (page_of(index) + 1) * PAGE_PARTS)
        wanted = [index]
        for each in range(index + 1, last):
            known = page.parts.get(each)
            if len(wanted) < signer.batch_parts and (
                known is None or self._is_ending(known.expires_at_unix_secs, head.refresh_before_secs)
            ):
                wanted.append(each)
        asked = {each: self._fixed(head, page, each) for each in wanted}
        reply = self._ask(signer, {**_about(head), "reason": reason, "parts": list(asked.values())})
        signed = _checked(reply.get("parts"), asked)
        if index not in signed:
            raise SignerRefused(f"{head.shown}: the signer's reply has no part {asked[index]['part_number']}")
        marks = (page.refused - set(signed)) | ({index} if reason == "refused" else set())
        return Page(parts={**page.parts, **signed}, refused=marks)

    def _fixed(self, head: PresignedUpload, page: Page, index: int) -> dict[str, Any]:
        known = page.parts.get(index)
        offset, size = head.span(index)
        return {
            "part_number": known.part_number if known else head.number(index),
            "provider_part_id": known.provider_part_id if known else None,
            "offset": offset,
            "size": size,
        }

    def _renewed_request(self, name: RequestName, unlike: SignedRequest | None) -> SignedRequest | None:
        with self._lock, self._plans.lock(self._id, DESTINATION) as is_alone:
            head = self.head()
            request: SignedRequest | None = getattr(head, name)
            if request is None or head.signer is None:
                return request
            is_other = unlike is None or request.url != unlike.url
            if is_other and not self._is_ending(request.expires_at_unix_secs, head.refresh_before_secs):
                return request
            try:
                if not is_alone:
                    raise SignerUnavailable("another worker waits for the signer")
                reason: Reason = "refused" if unlike else "expiring"
                reply = self._ask(head.signer, {**_about(head), "reason": reason, "parts": [], "requests": [name]})
            except SignerUnavailable:
                if is_other and not self._has_ended(request.expires_at_unix_secs):
                    return request
                raise
            signed = _request_of(reply, name)
            self._write(DESTINATION, head.model_copy(update={name: signed}).to_json())
            return signed


class SignedDownload(_Signed):
    """The requests of a range plan. Thread-safe."""

    _known: PresignedDownload | None = None

    def snapshot(self, unlike: PresignedDownload | None = None) -> PresignedDownload | None:
        """The plan, good now; ``unlike`` one whose URL was refused. None: there is no other."""
        known = self._known
        if known is None or unlike is not None or self._ends(known):
            known = self._known = self._renewed(unlike)
        return known

    def _ends(self, plan: PresignedDownload) -> bool:
        return self._is_ending(plan.range_expires_at_unix_secs, plan.refresh_before_secs)

    def _renewed(self, unlike: PresignedDownload | None) -> PresignedDownload | None:
        with self._lock, self._plans.lock(self._id, SOURCE) as is_alone:
            text = self._read(SOURCE)
            if text is None:
                raise CredentialExpired(_LOST)
            plan = PresignedDownload.from_json(text)
            is_other = unlike is None or plan.range_url != unlike.range_url
            if is_other and not self._ends(plan):
                return plan
            has_ended = self._has_ended(plan.range_expires_at_unix_secs)
            if plan.signer is None:
                if has_ended:
                    raise CredentialExpired(f"{plan.shown}: the URL ran out")
                return plan if is_other else None
            try:
                if not is_alone:
                    raise SignerUnavailable("another worker waits for the signer")
                plan = self._signed(plan, plan.signer, "refused" if unlike else "expiring")
            except SignerUnavailable:
                if is_other and not has_ended:
                    return plan
                raise
            self._write(SOURCE, plan.to_json())
            return plan

    def _signed(self, plan: PresignedDownload, signer: Signer, reason: Reason) -> PresignedDownload:
        about = {"kind": "download", "object": plan.shown, "metadata": plan.metadata, "total_size": plan.total_size}
        reply = self._ask(signer, {**about, "reason": reason})
        names = ("range_url", "range_headers", "range_expires_at_unix_secs", "head_url", "head_headers", "total_size")
        fresh = {name: reply[name] for name in names if name in reply}
        if "range_url" not in fresh or set(reply) - set(names):
            raise SignerRefused(f"{plan.shown}: the signer's reply is no range_url with its range_headers")
        kept = {"refresh_before_secs": plan.refresh_before_secs, "signer": plan.signer, "metadata": plan.metadata}
        if fresh.get("total_size", plan.total_size) != plan.total_size and plan.total_size is not None:
            raise SignerRefused(f"{plan.shown}: the signer names another total_size")
        fresh["total_size"] = plan.total_size if plan.total_size is not None else fresh.get("total_size")
        try:
            return PresignedDownload(**fresh, **kept).check()
        except ValidationError as exc:
            raise SignerRefused(f"{plan.shown}: the signer's reply: {refused(exc)}") from None
        except InvalidValue as exc:
            raise SignerRefused(f"{plan.shown}: the signer's reply: {exc}") from None


def _about(head: PresignedUpload) -> dict[str, Any]:
    return {
        "kind": "upload",
        "object": head.shown,
        "upload_id": head.upload_id,
        "metadata": head.metadata,
        "total_size": head.total_size,
        "chunk_size": head.chunk_size,
    }


def _checked(rows: object, asked: Mapping[int, Mapping[str, Any]]) -> dict[int, SignedPart]:
    """The reply's parts by index. One that was not asked for, or changed, is refused, and all with it."""
    if not isinstance(rows, list):
        raise SignerRefused("the signer's reply has no list of parts")
    by_number = {each["part_number"]: (index, each) for index, each in asked.items()}
    signed: dict[int, SignedPart] = {}
    for row in rows:
        try:
            part = SignedPart.model_validate(row)
            part.check("part")
        except ValidationError as exc:
            raise SignerRefused(f"the signer's reply: {refused(exc)}") from None
        except InvalidValue as exc:
            raise SignerRefused(f"the signer's reply: {exc}") from None
        index, fixed = by_number.get(part.part_number, (-1, {}))
        if index < 0 or index in signed:
            raise SignerRefused(f"the signer's reply has a part {part.part_number} that was not asked for")
        for name in ("offset", "size"):
            if getattr(part, name) != fixed[name]:
                raise SignerRefused(f"the signer's reply changes the {name} of part {part.part_number}")
        if fixed["provider_part_id"] not in (None, part.provider_part_id):
            raise SignerRefused(f"the signer's reply changes the provider_part_id of part {part.part_number}")
        signed[index] = part
    return signed


def _request_of(reply: Mapping[str, Any], name: RequestName) -> SignedRequest:
    try:
        signed = SignedRequest.model_validate(reply.get(name))
        signed.check(name)
    except ValidationError as exc:
        raise SignerRefused(f"the signer's reply: {name}: {refused(exc)}") from None
    except InvalidValue as exc:
        raise SignerRefused(f"the signer's reply: {exc}") from None
    return signed
