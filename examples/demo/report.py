"""The last page of the demo: a table of what happened, and whether that is what was promised."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from examples.demo.leg import Leg
from examples.demo.stage import PARTS_IN_FLIGHT, SIZE_BYTES
from examples.demo.tally import Tally

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """One leg, what its servers logged (``read GET``, ``written PUT``), and the hash of what arrived."""

    leg: Leg
    tallies: dict[str, Tally]
    digest: str

    @property
    def allowed_bytes(self) -> int:
        """One kill, and no more than what may be in flight."""
        return PARTS_IN_FLIGHT * self.leg.part_bytes

    def faults(self, expected_digest: str) -> list[str]:
        """What is not as promised; empty when all is right."""
        leg = self.leg
        checks = {
            "the bytes differ": self.digest == expected_digest,
            "no worker was killed while it held parts": bool(leg.killed and leg.held),
            "fewer than two workers stored parts": sum(count > 0 for count in leg.receipts.values()) >= 2,
            f"{leg.completions} completions": leg.completions == 1,
            f"{leg.leases_left} leases are left": leg.leases_left == 0,
        }
        for what, tally in self.tallies.items():
            checks[f"{what}: the log does not show every part"] = tally.parts == leg.parts
            checks[f"{what}: no part was sent again"] = bool(tally.parts_again)
            checks[f"{what}: more was sent again than was in flight"] = tally.bytes_again <= self.allowed_bytes
        return [f"{leg.title}: {fault}" for fault, right in checks.items() if not right]


def show(console: Console, results: list[Result], expected_digest: str, seconds: float) -> bool:
    """Print table and verdict; True if all is right."""
    table = Table(title="What happened", title_justify="left", title_style="bold")
    table.add_column("")
    for result in results:
        table.add_column(result.leg.title)
    rows = [_rows(each, expected_digest) for each in results]
    for name in rows[0]:
        table.add_row(name, *(each.get(name, "") for each in rows))
    console.print()
    console.print(table)
    faults = [fault for each in results for fault in each.faults(expected_digest)]
    for fault in faults:
        console.print(f"[bold red]✗[/] {fault}", soft_wrap=True)
    if not faults:
        console.print(
            f"[bold green]✓[/] {len(results)} workers killed, {len(results)} transfers whole, each completed once; "
            f"{seconds:.0f} s in all"
        )
    return not faults


def _rows(result: Result, expected_digest: str) -> dict[str, str]:
    leg = result.leg
    receipts = "  ".join(
        f"{name}{' ✗' if name == leg.killed else ''} {count}" for name, count in sorted(leg.receipts.items())
    )
    again = {what: f"{len(tally.parts_again)} {what}" for what, tally in result.tallies.items()}
    waste = {what: f"{tally.bytes_again / MIB:.1f} MiB {what}" for what, tally in result.tallies.items()}
    taken = f"after {max(leg.taken_over.values()):.1f} s" if leg.taken_over else "-"
    return {
        "size": f"{SIZE_BYTES / MIB:.0f} MiB",
        "parts": f"{leg.parts} of {leg.part_bytes / MIB:.0f} MiB",
        "receipts by worker": receipts,
        "killed": f"{leg.killed} at {leg.killed_at:.1f} s",
        "its parts": ", ".join(map(str, leg.held)),
        "taken over": taken,
        "parts sent again": ", ".join(again.values()),
        "bytes sent again": ", ".join(waste.values()),
        "  at most allowed": f"{result.allowed_bytes / MIB:.0f} MiB",
        "sha256": f"{'equal' if result.digest == expected_digest else 'DIFFERENT'}: {result.digest[:16]}…",
        "wall time": f"{leg.seconds:.1f} s",
    }
