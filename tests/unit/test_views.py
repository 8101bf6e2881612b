"""Rates, snapshots and flat records, made of transfers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haulage import Progress, State, Transfer, TransferRecord, status_number
from orchestrator.views import Rates

MIB = 1 << 20


def transfer(state: State = State.RUNNING, *, done: int = 0, total: int | None = 100) -> Transfer:
    return Transfer(
        transfer_id="s0-1",
        state=state,
        reason="",
        source="https://host/a%20b/film.mp4",
        destination="file://here/data/my%20film.mp4",
        direction="download",
        progress=Progress(done, done, total, 0, 1),
        error={},
        result={},
        tenant="default",
        reference="sign-7",
        created_at=1.0,
        started_at=None,
        ended_at=None,
    )


def at(received: int, total: int = 100 * MIB) -> Progress:
    return Progress(0, received, total, 0, 1)


def test_one_look_gives_no_rate_and_the_second_gives_one() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])

    first = rates.sample("a", at(0))
    now[0] += 2
    second = rates.sample("a", at(10 * MIB))

    assert (first.bytes_per_second, first.eta_seconds) == (0.0, None)
    assert second.bytes_per_second == second.smoothed_bytes_per_second == 5 * MIB
    assert second.eta_seconds == 18


def test_looks_within_a_second_show_the_rate_of_the_last_sample_and_the_bytes_of_now() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])
    rates.sample("a", at(0))
    now[0] += 1
    rates.sample("a", at(4 * MIB))

    now[0] += 0.01
    soon = rates.sample("a", at(5 * MIB))

    assert (soon.bytes_per_second, soon.received_bytes) == (4 * MIB, 5 * MIB)


def test_what_stood_still_meanwhile_begins_anew() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])
    rates.sample("a", at(0))
    rates.forget("a")

    now[0] += 1000
    assert rates.sample("a", at(5 * MIB)).bytes_per_second == 0.0


def test_rates_are_kept_for_a_thousand_transfers_and_no_more() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])
    for number in range(1001):
        rates.sample(str(number), at(0))

    now[0] += 1
    assert rates.sample("1000", at(MIB)).bytes_per_second == MIB
    assert rates.sample("0", at(MIB)).bytes_per_second == 0.0


@pytest.mark.parametrize(
    ("state", "number"),
    [
        (None, -1),
        (State.QUEUED, 0),
        (State.PREPARING, 0),
        (State.RUNNING, 1),
        (State.WAITING, 1),
        (State.COMPLETING, 1),
        (State.PAUSED, 2),
        (State.COMPLETED, 3),
        (State.FAILED, 4),
        (State.CANCELLED, 5),
    ],
)
def test_each_state_has_its_number(state: State | None, number: int) -> None:
    """RC-30."""
    assert status_number(state) == number
    assert state is None or status_number(str(state)) == number


def test_every_state_has_a_number_and_only_ended_ones_are_terminal() -> None:
    """RC-30: terminal are 3, 4 and 5."""
    assert {status_number(each) for each in State if each.ended} == {3, 4, 5}
    assert {status_number(each) for each in State if not each.ended} == {0, 1, 2}


def test_a_record_is_flat_and_names_a_download_by_where_it_goes() -> None:
    """RC-32."""
    record = TransferRecord.of(transfer(done=40))

    assert record == TransferRecord(
        task_id="s0-1",
        file_sign="sign-7",
        file_name="my film.mp4",
        total_size=100,
        progress=0.4,
        status=1,
        direction="download",
    )


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"direction": "upload", "source": "file://here/a/b.bin", "destination": "s3://bucket/k"}, "b.bin"),
        ({"direction": "copy", "source": "s3://bucket/100%25.bin", "destination": "s3://other/x"}, "100%25.bin"),
        ({"direction": "upload", "source": "mem:note", "destination": "s3://bucket/k"}, "note"),
        ({"direction": "download", "destination": "file://here/folder/"}, "film.mp4"),
    ],
)
def test_a_record_is_named_by_its_near_end(fields: dict[str, str], name: str) -> None:
    made = replace(transfer(), **fields)  # type: ignore[arg-type]  # they are the texts of a Transfer

    assert TransferRecord.of(made).file_name == name


def test_the_progress_of_a_record_is_1_once_complete_and_0_while_the_total_is_unknown() -> None:
    """RC-32: 0.0 when the total is 0."""
    assert TransferRecord.of(transfer(State.COMPLETED, done=0, total=0)).progress == 1.0
    unknown = TransferRecord.of(transfer(done=40, total=None))
    assert (unknown.progress, unknown.total_size) == (0.0, 0)
