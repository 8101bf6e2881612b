"""Thin Celery tasks: parse, call, and return normally. A message may be lost, doubled or late without harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, Task

from orchestrator.dispatch import ABORT, COMPLETE, PART, PREPARE
from orchestrator.errors import LedgerUnavailable, TransferNotFound
from workers.abort import run_abort
from workers.bootstrap import Deps, deps
from workers.complete import run_complete
from workers.lane import Ended, Ticket, run_lane
from workers.prepare import run_prepare
from workers.rows import LaneRow, Row

log = structlog.get_logger(__name__)

_CHORD_COUNT_SECONDS = 30 * 86400


def register(app: Celery) -> None:
    """Add the tasks to ``app``. Arguments that a newer version may add are taken and left alone."""

    @app.task(bind=True, name=PART, ignore_result=True, acks_late=False)
    def part(
        self: Task, transfer_id: str, epoch: int, round_no: int, lane: int, seq: int, *_later: Any, **_newer: Any
    ) -> Row:
        """Move the next part of a lane. Every outcome is a normal return: a failed header would kill the chord."""
        ticket = Ticket(transfer_id, epoch, round_no, lane, seq)
        in_chord, row = bool(self.request.chord), LaneRow(self.request.id)
        try:
            ended = run_lane(deps(), ticket, row, in_chord=in_chord)
            if ended.successor is not None:
                _publish_successor(self, deps(), ticket, ended, in_chord=in_chord)
        except (LedgerUnavailable, TransferNotFound) as exc:
            log.warning("lane_left", transfer_id=transfer_id, error=str(exc))
            row.why = exc.code
        except Exception:
            # The ticket's deadline brings the lane back; the chord must not see a failure.
            log.exception("lane_failed", transfer_id=transfer_id)
            row.why = "internal"
        return row

    @app.task(name=PREPARE, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
    def prepare(transfer_id: str, epoch: int, *_later: Any, **_newer: Any) -> Row:
        """Look, plan, open the upload, publish the first round."""
        return _guarded(transfer_id, lambda: run_prepare(deps(), transfer_id, epoch))

    @app.task(name=COMPLETE, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
    def complete(transfer_id: str, round_no: int, *_later: Any, **_newer: Any) -> Row:
        """The chord's body, and what the sweeper sends when a body was lost."""
        return _guarded(transfer_id, lambda: run_complete(deps(), transfer_id, round_no))

    @app.task(name=ABORT, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
    def abort(transfer_id: str, *_later: Any, **_newer: Any) -> Row:
        """Clean up after a cancel."""
        return _guarded(transfer_id, lambda: run_abort(deps(), transfer_id))


def _guarded(transfer_id: str, run: Callable[[], str]) -> Row:
    """The sweeper repeats what did not happen: a fault here is logged, not retried by Celery."""
    try:
        return Row(run())
    except (LedgerUnavailable, TransferNotFound) as exc:
        log.warning("task_left", transfer_id=transfer_id, error=str(exc))
        return Row(exc.code)
    except Exception:
        log.exception("task_failed", transfer_id=transfer_id)
        return Row("internal")


def _publish_successor(task: Task, deps: Deps, ticket: Ticket, ended: Ended, *, in_chord: bool) -> None:
    if ended.successor is None or not ended.queue:
        return
    address = (ticket.transfer_id, ticket.epoch, ticket.round_no, ticket.lane, ended.successor, ended.queue)
    if not in_chord:
        deps.dispatcher.part(*address)
        return
    task.add_to_chord(deps.dispatcher.lane(*address))
    # Should the group be gone already, Celery has just made a counter that would live for ever.
    backend = task.app.backend
    backend.client.expire(backend.get_key_for_group(task.request.group, ".t"), _CHORD_COUNT_SECONDS)
