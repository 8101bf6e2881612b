"""One transfer with a murder in it: wait until a worker is in the middle of parts, kill it, watch the others."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from examples.demo.screen import Screen
from examples.demo.stage import PARTS_IN_FLIGHT, Stage
from haulage import State
from tests.e2e.fleet import WorkerProcess

KILL_AT = 0.3
"""Share of the bytes that are stored when the killing starts."""
REPLACED_AFTER_SECONDS = 4.0
LONGEST_SECONDS = 75.0
POLL_SECONDS = 0.1


class LegFailed(Exception):
    """The leg did not go as it should; the message is for the screen."""


@dataclass(slots=True)
class Leg:
    """What happened in one leg. Parts are numbers; times are seconds."""

    title: str
    transfer_id: str = ""
    parts: int = 0
    part_bytes: int = 0
    seconds: float = 0.0
    killed: str = ""
    killed_at: float = 0.0
    held: tuple[int, ...] = ()
    taken_over: dict[int, float] = field(default_factory=dict)
    """Part -> seconds from the kill until somebody else had it."""
    receipts: Counter[str] = field(default_factory=Counter)
    completions: int = 0
    leases_left: int = 0


class Director:
    """Plays one leg. It sees what any client sees: the ledger, and the workers' own logs."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        self._screen = screen
        self._client = stage.fleet.client
        self._ledger = stage.fleet.ledger

    def play(self, title: str, source: str, destination: str) -> Leg:
        """Raises LegFailed, TransferFailed."""
        leg, began = Leg(title), time.monotonic()
        stored_before, replaced = self._stored(), None
        leg.transfer_id = self._client.submit(source, destination, parts_in_flight=PARTS_IN_FLIGHT)
        self._screen.begin(title, self._stage.workers)
        while not (transfer := self._client.get(leg.transfer_id)).state.ended:
            if time.monotonic() - began > LONGEST_SECONDS:
                raise LegFailed(f"{title}: still {transfer.state} after {LONGEST_SECONDS:.0f} s")
            holders = self._holders(leg.transfer_id)
            self._screen.update(transfer.progress, holders)
            if not leg.killed and transfer.progress.ratio >= KILL_AT:
                self._try_to_kill(leg, began)
            if leg.killed:
                since_kill = time.monotonic() - began - leg.killed_at
                self._watch_take_over(leg, holders, since_kill)
                if not replaced and since_kill > REPLACED_AFTER_SECONDS:
                    replaced = self._stage.start_worker(wait=False)
                    self._screen.say(
                        f"[green]started {replaced.name}[/] (pid {replaced.pid}): it joins in mid-transfer"
                    )
            time.sleep(POLL_SECONDS)
        self._screen.end(transfer.progress)
        if transfer.state is not State.COMPLETED:
            raise LegFailed(f"{title}: {transfer.state}: {transfer.error.get('message', '')}")
        leg.seconds = time.monotonic() - began
        leg.parts = transfer.progress.part_count
        leg.part_bytes = self._ledger.record(leg.transfer_id).plan.part_size_bytes
        leg.receipts = self._stored() - stored_before
        leg.completions = sum(each.kind == "completed" for each in self._client.events(leg.transfer_id))
        leg.leases_left = len(self._ledger.in_flight(leg.transfer_id))
        return leg

    def _try_to_kill(self, leg: Leg, began: float) -> None:
        """SIGKILL for the oldest worker, if the ledger shows two parts or more whose bytes move under its leases."""
        victim = self._stage.alive[0]
        if len(self._held_by(victim, leg.transfer_id, moving=True)) < 2:
            return
        victim.kill()
        leg.killed, leg.killed_at = victim.name, time.monotonic() - began
        leg.held = self._held_by(victim, leg.transfer_id, moving=False)  # the dead keep their leases until these end
        parts = ", ".join(map(str, leg.held))
        self._screen.say(f"[bold red]killed {victim.name}[/] (pid {victim.pid}, SIGKILL) holding parts {parts}")
        self._screen.say("[dim]nobody is told: the ledger waits until its leases of 10 s run out[/]")

    def _watch_take_over(self, leg: Leg, holders: dict[str, list[int]], since_kill: float) -> None:
        missing = set(leg.held) - set(leg.taken_over)
        for name, parts in holders.items():
            found = missing.intersection(parts) if name != leg.killed else set()
            if found:
                leg.taken_over.update(dict.fromkeys(found, since_kill))
                what = ", ".join(map(str, sorted(found)))
                self._screen.say(f"[green]{name} took over[/] {what} after {since_kill:.1f} s")

    def _held_by(self, worker: WorkerProcess, transfer_id: str, *, moving: bool) -> tuple[int, ...]:
        leases = self._ledger.in_flight(transfer_id).items()
        mine = [(part, got) for part, (process, got) in leases if part.isdigit() and _pid(process) == worker.pid]
        return tuple(sorted(int(part) for part, got in mine if got > 0 or not moving))

    def _holders(self, transfer_id: str) -> dict[str, list[int]]:
        """Worker -> parts under its leases, for every worker; those of the dead too."""
        names = {each.pid: each.name for each in self._stage.workers}
        found: dict[str, list[int]] = {}
        for part, (process, _) in self._ledger.in_flight(transfer_id).items():
            if part.isdigit() and (name := names.get(_pid(process))):
                found.setdefault(name, []).append(int(part))
        return found

    def _stored(self) -> Counter[str]:
        """Receipts so far, from each worker's own log."""
        stored = {each.name: each.events("part_stored") for each in self._stage.workers}
        return Counter({name: sum(entry["answer"] == "ok" for entry in entries) for name, entries in stored.items()})


def _pid(process: str) -> int:
    return int(process.split(":")[1])
