"""From what an application asks for to a transfer in the ledger: one, or many in a few round trips."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import DuplicateTransfer, HaulageError, InvalidSpec, LedgerUnavailable, QueueFull, SubmitFailed
from orchestrator.planned import fixed_options, name_of, plans_in, stored_texts
from orchestrator.queues import control_queue
from orchestrator.settings import Settings
from orchestrator.spec import Direction, TransferSpec, build_spec, destination_identity, dump_spec
from providers.plans import PresignedDownload, PresignedPlan, PresignedUpload
from providers.schemes import Location

if TYPE_CHECKING:  # they import Redis
    from orchestrator.ledger import Ledger, Request, Submitted

Place = str | os.PathLike[str] | PresignedUpload | PresignedDownload
"""A URL, an absolute path, a Path, which may be relative to the working folder, or a presigned plan."""
Item = Mapping[str, Any] | Sequence[Any]
"""A mapping with ``source``, ``destination`` and options; or (source, destination), or with a mapping of options."""

_BATCH = 100
_NEAR = ("file", "mem")
_NEAR_NEEDED = "a path, or a file: or mem: URL"
_FAR_NEEDED = "a URL of a store or server, such as s3://bucket/key"


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of one item of ``submit_many``.

    ``taken``: ``transfer_id`` is in the ledger. ``refused``: it is not, and ``error`` says why. ``unknown``: Redis went
    away while it was written; if it was, it is under ``transfer_id``, and the same item sent again is its duplicate.
    """

    status: Literal["taken", "refused", "unknown"]
    transfer_id: str
    error: HaulageError | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A spec that was checked as far as that needs no I/O."""

    spec: TransferSpec
    source: Location
    destination: Location
    plans: Mapping[str, PresignedPlan] = field(default_factory=dict, repr=False)
    """Presigned plans by role; in the spec stand their names."""

    @property
    def identity(self) -> str:
        return destination_identity(self.spec, self.destination)


def ask(settings: Settings, source: Place, destination: Place, options: Mapping[str, Any]) -> Asked:
    """Raises InvalidSpec (102) that names the field."""
    plans = plans_in(source, destination, options)
    fixed = {**options, **fixed_options(plans, options)}
    return Asked(*build_spec(settings, source=place(source), destination=place(destination), **fixed), plans)


def ask_many(settings: Settings, items: Iterable[Item]) -> list[Asked]:
    """Raises InvalidSpec for the first that is refused; its field begins with ``items[3].``, counted from 0."""
    return [_ask_item(settings, number, item) for number, item in enumerate(items)]


def check_direction(asked: Asked, wanted: Direction) -> Asked:
    """Raises InvalidSpec that names the end which makes it another direction."""
    near = {"source": asked.source.scheme.name in _NEAR, "destination": asked.destination.scheme.name in _NEAR}
    needed = {"upload": {"source": True}, "download": {"source": False, "destination": True}}
    for name, is_near in needed.get(wanted, {"source": False, "destination": False}).items():
        if near[name] is not is_near:
            location = asked.source if name == "source" else asked.destination
            allowed = _NEAR_NEEDED if is_near else _FAR_NEEDED
            raise InvalidSpec(name, location.shown, f"{allowed}, to {wanted}; submit() takes any direction")
    return asked


def place(value: Place) -> str:
    """A Path becomes absolute. Text stays as it is: only a URL or an absolute path passes the checks."""
    if isinstance(value, PresignedUpload | PresignedDownload):
        return name_of(value)
    return os.path.abspath(value) if isinstance(value, os.PathLike) else value


def local_place(value: Place) -> str:
    """Where an argument can only be a path, text may be relative too. A slash at the end, for a folder, stays."""
    if not isinstance(value, str) or not value.strip() or value.startswith("/") or ":" in value.split("/")[0]:
        return place(value)
    return os.path.abspath(value) + ("/" if value.endswith("/") else "")


def check_fleet(ledger: Ledger, all_asked: Iterable[Asked]) -> None:
    """Refuse hosts, pools and profiles that no worker has. Reads once. Raises InvalidSpec."""
    from orchestrator.fleet import Fleet, check_against_fleet

    fleet = Fleet(ledger)
    workers, hosts = fleet.workers(), fleet.hosts()
    for asked in all_asked:
        check_against_fleet(asked.spec, asked.source, asked.destination, workers, hosts, ledger.settings)


def write_one(ledger: Ledger, asked: Asked, *, paused: bool = False) -> tuple[str, bool]:
    """The id and whether it is new. Raises DuplicateTransfer, QueueFull, SubmitFailed, LedgerUnavailable."""
    transfer_id = ledger.new_id(asked.identity)
    _keep_plans(ledger, transfer_id, asked)
    answer = ledger.submit(transfer_id, **_request(asked, ledger.settings, paused=paused))
    _drop_plans(ledger, transfer_id, asked, answer)
    if error := _refusal(answer, asked, ledger.settings):
        raise error
    return answer.transfer_id, answer.outcome == "ok"


def write_many(ledger: Ledger, all_asked: Sequence[Asked], make_room: Callable[[], bool]) -> Iterator[Submission]:
    """Write in batches of one round trip: one outcome each, in order, whatever happens in between.

    ``make_room`` admits what can start, and says whether that made room in a full queue.
    """
    lost: LedgerUnavailable | None = None
    pairs = list(zip(_ids_in_order(ledger, all_asked), all_asked, strict=True))
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        if lost is None:
            outcomes, lost = _write_batch(ledger, batch, make_room)
            yield from outcomes
        else:
            yield from [Submission("refused", "", lost)] * len(batch)


def _ids_in_order(ledger: Ledger, all_asked: Sequence[Asked]) -> Iterator[str]:
    """Ids that sort as the items stand: what is queued in the same millisecond starts in the order of its ids."""
    ids = [ledger.new_id(each.identity) for each in all_asked]
    of_shard: dict[str, Iterator[str]] = {}
    for each in ids:
        shard = ledger.prefix(each)
        if shard not in of_shard:
            of_shard[shard] = iter(sorted(id_ for id_ in ids if ledger.prefix(id_) == shard))
        yield next(of_shard[shard])


def _write_batch(
    ledger: Ledger, batch: Sequence[tuple[str, Asked]], make_room: Callable[[], bool]
) -> tuple[list[Submission], LedgerUnavailable | None]:
    """What became of each, and the error if Redis went away meanwhile."""
    requests = [(transfer_id, _request(asked, ledger.settings)) for transfer_id, asked in batch]
    outcomes: dict[int, Submission] = {}
    left = list(range(len(batch)))
    while left:
        try:
            for at in left:
                _keep_plans(ledger, *batch[at])
            answers = ledger.submit_many([requests[at] for at in left])
        except LedgerUnavailable as exc:
            outcomes |= {at: Submission("unknown", requests[at][0], exc) for at in left}
            return [outcomes[at] for at in range(len(batch))], exc
        for at, answer in zip(left, answers, strict=True):
            _drop_plans(ledger, requests[at][0], batch[at][1], answer)
            outcomes[at] = _outcome(answer, batch[at][1], ledger.settings)
        left = [at for at in left if isinstance(outcomes[at].error, QueueFull)]
        if left and not make_room():
            break
    return [outcomes[at] for at in range(len(batch))], None


def _keep_plans(ledger: Ledger, transfer_id: str, asked: Asked) -> None:
    """Written before the transfer: whoever prepares it finds them."""
    if asked.plans:
        from orchestrator.signed_plans import LedgerPlans

        LedgerPlans(ledger).keep(transfer_id, stored_texts(asked.plans))


def _drop_plans(ledger: Ledger, transfer_id: str, asked: Asked, answer: Submitted | SubmitFailed) -> None:
    """Of a transfer that was not taken nothing stays."""
    if asked.plans and (isinstance(answer, SubmitFailed) or answer.outcome != "ok"):
        from orchestrator.signed_plans import LedgerPlans

        LedgerPlans(ledger).drop(transfer_id)


def _outcome(answer: Submitted | SubmitFailed, asked: Asked, settings: Settings) -> Submission:
    if isinstance(answer, SubmitFailed):
        return Submission("refused", "", answer)
    error = _refusal(answer, asked, settings)
    return Submission("refused", "", error) if error else Submission("taken", answer.transfer_id)


def _refusal(answer: Submitted, asked: Asked, settings: Settings) -> HaulageError | None:
    if answer.outcome == "dup":
        return DuplicateTransfer(answer.transfer_id)
    if answer.outcome == "full":
        return QueueFull(f"{settings.queue_capacity} {asked.spec.direction}s are queued already")
    return None


def _request(asked: Asked, settings: Settings, *, paused: bool = False) -> Request:
    spec, key = asked.spec, asked.spec.idempotency_key
    return {
        "destination": asked.identity,
        "spec": dump_spec(spec),
        "direction": spec.direction,
        "priority": spec.priority,
        "idempotency": hashlib.sha256(f"{asked.identity}\0{key}".encode()).hexdigest()[:32] if key else "",
        "not_before_ms": int((spec.not_before or 0) * 1000),
        "paused": paused,
        "control_queue": control_queue(asked.source, asked.destination, settings),
        "tenant": spec.tenant,
        "reference": spec.reference or "",
        "keep_partial": spec.keep_partial,
    }


def _ask_item(settings: Settings, number: int, item: Item) -> Asked:
    where = f"items[{number}]"
    if isinstance(item, Mapping):
        options = {str(name): value for name, value in item.items()}
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) in (2, 3):
        options = {"source": item[0], "destination": item[1], **(dict(item[2]) if len(item) == 3 else {})}
    else:
        raise InvalidSpec(where, type(item).__name__, "a mapping, or (source, destination[, options])")
    try:
        return ask(settings, options.pop("source", ""), options.pop("destination", ""), options)
    except InvalidSpec as exc:
        raise InvalidSpec(f"{where}.{exc.field}", exc.value, exc.allowed) from None
