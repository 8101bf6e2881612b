"""Both ends of a transfer, opened once per process and epoch and shared by its lanes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from orchestrator.ledger import Ledger
from orchestrator.plan import Plan
from orchestrator.records import Record
from orchestrator.settings import Settings
from orchestrator.spec import TransferSpec, file_host, inside_folder, locations
from providers.base import Destination, Profile, Services, Source, UploadId, Validator
from providers.errors import ProviderUnavailable
from providers.filenames import FALLBACK
from providers.registry import open_destination, open_source
from providers.schemes import Location


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What a part needs: where from, where to, and how it is cut."""

    record: Record
    spec: TransferSpec
    plan: Plan
    source: Source
    destination: Destination
    source_location: Location
    destination_location: Location
    upload: UploadId
    validator: Validator
    server_copy: bool

    @property
    def queue(self) -> str:
        """Queue of the parts."""
        return self.record.fields["q"]

    @property
    def control(self) -> str:
        """Queue of prepare, complete and abort."""
        return self.record.fields["qc"]


class EndpointCache:
    """The endpoints of the transfers this process works on."""

    def __init__(self, ledger: Ledger, settings: Settings, services: Services, *, capacity: int = 256) -> None:
        self._ledger = ledger
        self._settings = settings
        self._services = services
        self._capacity = capacity
        self._known: OrderedDict[tuple[str, int, int], Endpoints] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, transfer_id: str, epoch: int, session_no: int) -> Endpoints:
        """Raises TransferNotFound, LedgerCorrupt, InvalidSpec, ProviderUnavailable."""
        key = (transfer_id, epoch, session_no)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        opened = self.open(self._ledger.record(transfer_id), planned=True)
        with self._lock:
            opened = self._known.setdefault(key, opened)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return opened

    def forget(self, transfer_id: str) -> None:
        """Open anew next time: a credential or session is no longer good."""
        with self._lock:
            for key in [key for key in self._known if key[0] == transfer_id]:
                del self._known[key]

    def open(self, record: Record, *, planned: bool = False) -> Endpoints:
        """Open both ends of a record. No I/O beyond what building a client needs.

        ``planned`` tells the source the size that was planned with: what reads a part never looks at the whole.
        """
        spec = record.spec
        source_at, destination_at = locations(spec)
        if destination_at.url.endswith("/"):
            # Until prepare has learned the name any will do: it asks nothing of the destination before.
            destination_at = inside_folder(destination_at, record.fields.get("dest_name") or FALLBACK)
        asked = spec.options("source", record.transfer_id)
        if planned:
            asked = replace(asked, size_bytes=record.plan.size_bytes)
        source = open_source(source_at, self._profile(spec.source_profile, source_at), asked, self._services)
        mode = record.fields.get("mode")
        options = replace(spec.options("destination", record.transfer_id), mode=int(mode) if mode else None)
        profile = self._profile(spec.destination_profile, destination_at)
        destination = open_destination(destination_at, profile, options, self._services)
        return Endpoints(
            record,
            spec,
            record.plan,
            source,
            destination,
            source_at,
            destination_at,
            record.session or UploadId(""),
            record.validator,
            record.fields.get("server_copy") == "1",
        )

    def file_host(self, location: Location) -> str | None:
        """The one host that must touch this location."""
        return file_host(location, self._settings)

    def _profile(self, name: str | None, location: Location) -> Profile:
        """The named profile; without a name the one called like the scheme, if there is one."""
        try:
            found = self._settings.profile(name or location.scheme.name)
        except OSError as exc:
            reason = f"a secret file of profile {name or location.scheme.name!r} cannot be read: {exc.strerror}"
            raise ProviderUnavailable(reason) from None
        if found is None and name is not None:
            raise ProviderUnavailable(f"this worker has no profile {name!r}")
        return found or Profile(location.scheme.name)
