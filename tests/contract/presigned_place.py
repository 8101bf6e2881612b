"""What the tests of presigned flows share: a plan at a real store, and where it is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from providers.base import BytesBody, Options, PartReceipt, Profile, Services
from providers.plans import PresignedDownload, PresignedPlan, PresignedUpload
from providers.presigned import PresignedDestination, PresignedSource
from providers.presigned_texts import texts_of
from providers.registry import open_destination, open_source
from providers.schemes import parse
from tests.contract.objects import cut
from tests.servers.signer_server import KEY


class KeptPlans:
    """The SignedPlans of one fleet: what Redis does, in a dict."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def read(self, transfer_id: str, names: Sequence[str]) -> list[str | None]:
        return [self.texts.get((transfer_id, name)) for name in names]

    def write(self, transfer_id: str, texts: Mapping[str, str]) -> bool:
        self.texts.update({(transfer_id, name): text for name, text in texts.items()})
        return True

    @contextmanager
    def lock(self, transfer_id: str, name: str) -> Iterator[bool]:
        with self._lock:
            yield True


class Planned:
    """A plan as workers meet it; each ``destination()`` is another process's view of it."""

    def __init__(self, plan: PresignedPlan) -> None:
        self.plan = plan
        self.kept = KeptPlans()
        self.services = Services(plans=self.kept, connect_seconds=5, read_seconds=20)
        self.profile = Profile("signer", {"signer_key": KEY})
        self.give(plan)

    def give(self, plan: PresignedPlan) -> None:
        self.kept.write("t1", texts_of(plan))

    def destination(self) -> PresignedDestination:
        found = open_destination(self._location("destination"), self.profile, Options(transfer_id="t1"), self.services)
        assert isinstance(found, PresignedDestination)
        return found

    def source(self) -> PresignedSource:
        found = open_source(self._location("source"), self.profile, Options(transfer_id="t1"), self.services)
        assert isinstance(found, PresignedSource)
        return found

    def _location(self, role: Any) -> Any:
        return parse(f"presigned+{self.plan.shown}", role)


def send(planned: Planned, data: bytes, numbers: Sequence[int] | None = None) -> list[PartReceipt]:
    """Put the parts, each from another process."""
    assert isinstance(planned.plan, PresignedUpload)
    parts = cut(len(data), planned.plan.chunk_size)
    return [
        put(planned.destination(), planned.plan, data, each.number)
        for each in parts
        if numbers is None or each.number in numbers
    ]


def put(to: PresignedDestination, plan: PresignedUpload, data: bytes, number: int) -> PartReceipt:
    part = cut(len(data), plan.chunk_size)[number - 1]
    return to.put_part(UPLOAD, part, BytesBody(data[part.span.start : part.span.stop]))


UPLOAD: Any = "plan"
__all__ = ["UPLOAD", "KeptPlans", "Planned", "PresignedDownload", "put", "send"]
