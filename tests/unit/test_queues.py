"""Where parts run."""

from __future__ import annotations

import pytest

from orchestrator.plan import Plan
from orchestrator.queues import part_queue
from orchestrator.settings import Settings
from orchestrator.spec import TransferSpec
from providers.base import MIB
from providers.schemes import parse


@pytest.mark.parametrize(
    ("plan", "queue"),
    [
        (Plan(0, 1, 1), "haulage.express"),
        (Plan(8 * MIB, 8 * MIB, 1), "haulage.express"),
        (Plan(64 * MIB, 64 * MIB, 1), "haulage.express"),
        (Plan(50_000 * MIB, 50_000 * MIB, 1), "haulage.data"),
        (Plan(16 * MIB, 8 * MIB, 2), "haulage.data"),
        (Plan(None, 8 * MIB, 0, stream=True), "haulage.data"),
    ],
)
def test_only_what_is_small_takes_the_express_pool(plan: Plan, queue: str) -> None:
    spec = TransferSpec(source="https://a/x", destination="s3://bucket/x")
    source, destination = parse(spec.source, "source"), parse(spec.destination, "destination")

    assert part_queue(spec, source, destination, Settings(), plan) == queue
