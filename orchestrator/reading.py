"""Reads of the ledger: records, receipts, history. None of them changes anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from orchestrator.connection import ledger_errors
from orchestrator.errors import TransferNotFound
from orchestrator.plan import Plan
from orchestrator.records import Record, unpack_receipt
from orchestrator.settings import Settings
from providers.base import PartReceipt

QUEUE_PRIORITY_STEP = 4_398_046_511_104
"""The score in an admission queue is priority x this + the time in ms, see ``enqueue`` in lua/_lib.lua."""
_PRIORITIES = 10
_BUCKET = 100
"""Receipts lie in hashes of this many parts, small enough for Redis to keep them packed."""


class LedgerReads:
    """What can be asked. ``prefixes`` are those of the shards."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.redis = client
        self.settings = settings
        self.prefixes = [f"hl:{{s{shard}}}:" for shard in range(settings.shards)]

    def prefix(self, transfer_id: str) -> str:
        """Key prefix of the transfer's shard. Raises TransferNotFound for what is no transfer id."""
        shard, dash, rest = transfer_id.partition("-")
        if not dash or not shard.startswith("s") or not shard[1:].isdigit() or not rest.isalnum():
            raise TransferNotFound(f"{transfer_id!r} is not a transfer id")
        return f"hl:{{{shard}}}:"

    def record(self, transfer_id: str) -> Record:
        """The whole record. Raises TransferNotFound."""
        with ledger_errors():
            fields = pairs_of(self.redis.hgetall(self.prefix(transfer_id) + f"t:{transfer_id}"))
        if not fields:
            raise TransferNotFound(f"no transfer {transfer_id}")
        return Record(transfer_id, fields)

    def records(self, transfer_ids: Sequence[str]) -> list[Record]:
        """Many records in one round trip; those that are gone are left out."""
        with ledger_errors(), self.redis.pipeline(transaction=False) as pipe:
            for each in transfer_ids:
                pipe.hgetall(self.prefix(each) + f"t:{each}")
            replies = pipe.execute()
        return [Record(id_, pairs_of(r)) for id_, r in zip(transfer_ids, replies, strict=True) if r]

    def receipts(self, record: Record) -> list[PartReceipt]:
        """All receipts, by part number."""
        plan, prefix = record.plan, self.prefix(record.transfer_id)
        count = plan.part_count or record.number("done")
        with ledger_errors(), self.redis.pipeline(transaction=False) as pipe:
            for bucket in range(count // _BUCKET + 1):
                pipe.hgetall(f"{prefix}r:{record.transfer_id}:{bucket}")
            buckets = pipe.execute()
        found = []
        for bucket, fields in enumerate(buckets):
            for index, packed in fields.items():
                number = bucket * _BUCKET + int(index) + 1
                found.append(unpack_receipt(number, packed, planned_bytes(plan, number)))
        return sorted(found, key=lambda each: each.number)

    def history(self, transfer_id: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """The latest failed attempts, newest first."""
        with ledger_errors():
            rows = self.redis.lrange(f"{self.prefix(transfer_id)}x:{transfer_id}", 0, limit - 1)
        return [dict(json.loads(each)) for each in rows]

    def in_flight(self, transfer_id: str) -> dict[str, tuple[str, int]]:
        """Leases that are held now: member -> (process, received bytes)."""
        prefix = self.prefix(transfer_id)
        with ledger_errors(), self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(f"{prefix}o:{transfer_id}")
            pipe.hgetall(f"{prefix}v:{transfer_id}")
            owners, received = pipe.execute()
        return {
            text_of(member): (text_of(text).split("|")[1], int(received.get(member, 0)))
            for member, text in owners.items()
        }

    def list_ids(self, *, newest_first: bool = True, start: int = 0, limit: int = 100) -> list[str]:
        """Ids by the time they were submitted, over all shards."""
        found: list[tuple[float, str]] = []
        with ledger_errors():
            for prefix in self.prefixes:
                pull: Any = self.redis.zrevrange if newest_first else self.redis.zrange
                rows = pull(f"{prefix}all", 0, start + limit - 1, withscores=True)
                found += [(score, text_of(each)) for each, score in rows]
        found.sort(reverse=newest_first)
        return [each for _, each in found[start : start + limit]]

    def oldest_queued_seconds(self) -> float | None:
        """How long the oldest transfer waits for a slot of its direction; None when none does."""
        queues = [f"{prefix}queue:{direction}" for prefix in self.prefixes for direction in self.settings.slots()]
        with ledger_errors(), self.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                for first in range(0, _PRIORITIES * QUEUE_PRIORITY_STEP, QUEUE_PRIORITY_STEP):
                    pipe.zrangebyscore(queue, first, f"({first + QUEUE_PRIORITY_STEP}", 0, 1, withscores=True)
            pipe.time()
            *oldest_of_each, (seconds, micros) = pipe.execute()
        since = [rows[0][1] % QUEUE_PRIORITY_STEP / 1000 for rows in oldest_of_each if rows]
        return max(0.0, int(seconds) + int(micros) / 1e6 - min(since)) if since else None

    def sessions(self) -> dict[str, dict[str, Any]]:
        """Every multipart upload that was opened and neither completed nor aborted, by transfer id."""
        with ledger_errors():
            return {
                text_of(key): dict(json.loads(value))
                for prefix in self.prefixes
                for key, value in self.redis.hgetall(f"{prefix}sessions").items()
            }


def planned_bytes(plan: Plan, number: int) -> int | None:
    """Size of a part by the plan, or None when only its receipt knows."""
    if plan.size_bytes is None or not 1 <= number <= plan.part_count:
        return None
    return max(0, min(plan.part_size_bytes, plan.size_bytes - (number - 1) * plan.part_size_bytes))


def text_of(value: bytes | str | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    return {text_of(flat[at]): text_of(flat[at + 1]) for at in range(0, len(flat), 2)}


def pairs_of(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {text_of(key): text_of(value) for key, value in fields.items()}
