"""A new presigned plan for a transfer whose URLs ran out, or are about to. What is stored stays stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import InvalidSpec, TransferEnded
from orchestrator.planned import name_of
from orchestrator.signed_plans import LedgerPlans
from orchestrator.states import State
from providers.errors import InvalidValue
from providers.plans import PresignedDownload, PresignedPlan
from providers.presigned_texts import DESTINATION, head_of, texts_of

if TYPE_CHECKING:  # it imports Redis
    from orchestrator.ledger import Ledger


def renew_plan(ledger: Ledger, transfer_id: str, plan: PresignedPlan) -> None:
    """Raises InvalidSpec for a plan of another object, grid or upload, TransferNotFound, TransferEnded."""
    record = ledger.record(transfer_id)
    if record.state in (State.COMPLETED, State.CANCELLED):
        raise TransferEnded(f"transfer {transfer_id} is {record.state}")
    try:
        plan.check()
    except InvalidValue as exc:
        raise InvalidSpec(f"plan.{exc.field}", exc.value, exc.allowed) from None
    spec, is_source = record.spec, isinstance(plan, PresignedDownload)
    place = (spec.source if is_source else spec.destination).partition("?")[0]
    if name_of(plan) != place:
        raise InvalidSpec("plan.object", plan.shown, "the object of the plan that the transfer has")
    plans = LedgerPlans(ledger)
    fixed = {"total_size": spec.size_bytes}
    if not is_source:
        fixed["chunk_size"] = spec.part_size
        (text,) = plans.read(transfer_id, [DESTINATION])
        if text is not None and (upload := head_of(text).upload_id) != getattr(plan, "upload_id", None):
            raise InvalidSpec("plan.upload_id", getattr(plan, "upload_id", None), f"{upload}: parts are stored there")
    for name, value in fixed.items():
        if value is not None and getattr(plan, name) not in (None, value):
            raise InvalidSpec(f"plan.{name}", getattr(plan, name), f"{value}, as planned")
    if not plans.write(transfer_id, texts_of(plan)):
        plans.keep(transfer_id, texts_of(plan), for_good=True)
