"""A thousand transfers, eight processes that all want them, and exactly one of each.

Half of the transfers are told apart by their destination alone, the other half also carry an idempotency key. Every
process submits all of them, in an order of its own.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from haulage import State
from tests.e2e.fleet import CHECKOUT, PATIENCE_SECONDS, Fleet, eventually

TRANSFERS, SUBMITTERS = 1_000, 8
KEYED = TRANSFERS // 2


def items(folder: Path) -> list[tuple[str, str, dict[str, str]]]:
    """Source, destination, options. Each file holds its own number."""
    for number in range(TRANSFERS):
        (folder / f"{number}.txt").write_text(str(number))
    return [
        (
            str(folder / f"{number}.txt"),
            f"mem:copy-{number}",
            {"idempotency_key": f"key-{number}"} if number < KEYED else {},
        )
        for number in range(TRANSFERS)
    ]


def submit_all(fleet: Fleet, wanted: list[tuple[str, str, dict[str, str]]]) -> list[dict[int, list[str]]]:
    """What each process was told, by the number of the transfer: status, error, and the id that has it."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.submitter", f"submitter-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env=fleet.environment,
        )
        for number in range(SUBMITTERS)
    ]
    orders = [random.Random(number).sample(range(TRANSFERS), TRANSFERS) for number in range(SUBMITTERS)]
    for process, order in zip(running, orders, strict=True):
        assert process.stdin
        process.stdin.write(json.dumps([wanted[each] for each in order]) + "\n")
        process.stdin.flush()
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in running]
    assert [process.returncode for process in running] == [0] * SUBMITTERS
    return [dict(zip(order, json.loads(each), strict=True)) for order, each in zip(orders, told, strict=True)]


@pytest.mark.timeout(360)
def test_a_thousand_transfers_that_eight_processes_want_are_made_exactly_once(tmp_path: Path) -> None:
    """RC-39: of two submissions of one key over N processes exactly one wins, and the other is told which."""
    source = tmp_path / "source"
    source.mkdir()
    with Fleet(tmp_path, upload_slots=64) as fleet:
        wanted = items(source)
        heard = submit_all(fleet, wanted)

        holders: dict[int, set[str]] = defaultdict(set)
        winners: Counter[int] = Counter()
        for answers in heard:
            for number, (status, code, transfer_id) in answers.items():
                holders[number].add(transfer_id)
                winners[number] += status == "taken"
                assert (status, code) in (("taken", ""), ("refused", "duplicate"))
        # Whoever asks for a transfer is told one and the same id.
        assert [len(holders[number]) for number in range(TRANSFERS)] == [1] * TRANSFERS
        # Without a key one process made it and the others were refused; with the same key all have made it.
        assert {winners[number] for number in range(KEYED, TRANSFERS)} == {1}
        assert {winners[number] for number in range(KEYED)} == {SUBMITTERS}
        ids = {transfer_id for each in holders.values() for transfer_id in each}
        assert {each.transfer_id for each in fleet.client.list(limit=10 * TRANSFERS)} == ids
        assert len(ids) == TRANSFERS

        fleet.worker("mover", threads=8)
        ended = fleet.client.wait_all(sorted(ids), timeout_seconds=4 * PATIENCE_SECONDS)

        assert {each.state for each in ended} == {State.COMPLETED}
        redis = fleet.redis.client()
        stored = {number: redis.get(f"hl:{{mem}}:copy-{number}") for number in range(TRANSFERS)}
        assert stored == {number: str(number).encode() for number in range(TRANSFERS)}
        assert {tuple(fleet.kinds(each)).count("completed") for each in ids} == {1}
        eventually(lambda: not fleet.queued_messages(), "empty queues")
