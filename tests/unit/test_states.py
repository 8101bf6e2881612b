"""The table of moves, and that the Lua files know no other state and no other event."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import orchestrator
from orchestrator.events import EVENTS_KEPT, KINDS, SHARD_EVENTS_KEPT
from orchestrator.states import MOVES, State, allowed

LUA = {path.stem: path.read_text("utf-8") for path in (Path(orchestrator.__file__).parent / "lua").glob("*.lua")}
CODE = {name: re.sub(r"--.*", "", text) for name, text in LUA.items()}


def test_every_state_has_its_row_and_nothing_moves_to_itself() -> None:
    assert set(MOVES) == set(State)
    assert not [state for state in State if allowed(state, state)]


def test_nothing_leaves_a_final_state_and_only_retry_or_cancel_leave_failed() -> None:
    assert {state for state in State if not MOVES[state]} == {State.COMPLETED, State.CANCELLED}
    assert {state for state in State if state.final} == {State.COMPLETED, State.CANCELLED}
    assert {state for state in State if state.ended} == {State.COMPLETED, State.CANCELLED, State.FAILED}
    assert MOVES[State.FAILED] == {State.QUEUED, State.CANCELLED}


def test_every_state_can_be_left_towards_completed_unless_it_is_final() -> None:
    reach = {State.COMPLETED}
    for _ in State:
        reach |= {state for state in State if MOVES[state] & reach}

    assert reach == set(State) - {State.CANCELLED}


def test_whatever_is_not_final_can_be_cancelled() -> None:
    assert all(allowed(state, State.CANCELLED) for state in State if not state.final)


def test_every_state_the_lua_files_set_or_compare_is_known() -> None:
    text = "\n".join(CODE.values())
    named = set(re.findall(r"set\(id, 'state', '(\w+)'", text))
    named |= set(re.findall(r"finish_transfer\(id, '(\w+)'", text))
    named |= set(re.findall(r"\bstate [=~]= '(\w+)'", text))

    assert named - {"gone"} == set(State)  # what a transfer that is not there answers


def test_every_state_is_reached_by_some_lua_file() -> None:
    text = "\n".join(CODE.values())
    reached = set(re.findall(r"set\(id[^)]*'state', (?:outcome == 'wait' and )?'(\w+)'", text))
    reached |= set(re.findall(r"finish_transfer\(id, '(\w+)'", text))
    reached |= {State.QUEUED if "paused and 'paused' or 'queued'" in CODE["submit"] else ""}

    assert reached == set(State)


def test_every_event_the_lua_files_send_is_known() -> None:
    text = "\n".join(CODE.values())
    sent = set(re.findall(r"event\(id, '(\w+)'", text)) | set(re.findall(r"finish_transfer\(id, '\w+', '(\w+)'", text))
    sent |= {"paused" if "event(id, state, '{}')" in CODE["submit"] else ""}

    assert sent == set(KINDS) - {"lost"}  # `lost` is the reader's own


def test_what_is_kept_of_events_is_what_the_lua_files_keep() -> None:
    kept = re.findall(r"'(e|events)'(?:, id\))?, 'MAXLEN', '~', (\d+)", CODE["_lib"])

    assert set(kept) == {("e", str(EVENTS_KEPT)), ("events", str(SHARD_EVENTS_KEPT))}


@pytest.mark.parametrize("name", sorted(set(LUA) - {"_lib"}))
def test_every_lua_file_opens_with_its_name_its_job_and_its_arguments(name: str) -> None:
    assert LUA[name].startswith(f"-- {name}: ")
    assert "ARGV" in LUA[name].split("\nlocal")[0]


def test_no_lua_file_reads_a_clock_of_its_own() -> None:
    assert [name for name, text in CODE.items() if "'TIME'" in text or "os.time" in text] == ["_lib"]
