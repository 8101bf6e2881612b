"""Which transfers a list or an action on many is about: the filters that both share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack, get_args

from orchestrator.errors import InvalidSpec, LedgerCorrupt
from orchestrator.records import Record
from orchestrator.spec import Direction, locations
from orchestrator.states import State
from orchestrator.submitting import Asked
from orchestrator.views import shown_ends

if TYPE_CHECKING:  # they import Redis
    from orchestrator.ledger import Ledger
    from orchestrator.pages import Row


class Filters(TypedDict, total=False):
    """What ``list`` and the actions on many select by. Every filter that is given must match."""

    state: State | str | Collection[State | str] | None
    direction: str | None
    tenant: str | None
    reference: str | None
    source_contains: str | None
    destination_contains: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Every filter that is given must match. ``fields`` are compared by Redis, texts in URLs here.

    The query of a URL, which may hold a signature, is not searched.
    """

    fields: Mapping[str, tuple[str, ...]]
    source_contains: str = ""
    destination_contains: str = ""

    @classmethod
    def of(cls, **filters: Unpack[Filters]) -> Selection:
        """Raises InvalidSpec for a state or direction that does not exist, and for an unknown filter."""
        for name in filters.keys() - Filters.__annotations__.keys():
            raise InvalidSpec(name, "(hidden)", f"the filters {', '.join(Filters.__annotations__)}")
        direction, state = filters.get("direction"), filters.get("state")
        if direction is not None and direction not in get_args(Direction):
            raise InvalidSpec("direction", direction, ", ".join(get_args(Direction)))
        given = {"direction": direction, "tenant": filters.get("tenant"), "reference": filters.get("reference")}
        fields: dict[str, tuple[str, ...]] = {name: (value,) for name, value in given.items() if value is not None}
        if state is not None:
            fields["state"] = _states(state)
        return cls(fields, filters.get("source_contains") or "", filters.get("destination_contains") or "")

    def in_states(self, states: Collection[State]) -> Selection:
        """The same, of transfers in one of these states unless it names states itself."""
        named = self.fields.get("state", tuple(str(each) for each in states))
        return Selection({**self.fields, "state": named}, self.source_contains, self.destination_contains)

    def rows(self, ledger: Ledger, *, newest_first: bool = True, page_size: int = 0) -> Iterator[Row]:
        """What matches, read in pages while it is iterated."""
        from orchestrator.pages import PAGE, rows

        page_size = min(page_size or PAGE, PAGE) if not (self.source_contains or self.destination_contains) else PAGE
        found = rows(ledger, self.fields, newest_first=newest_first, page_size=page_size)
        return (row for row in found if self._texts_match(row[0]))

    def _texts_match(self, record: Record) -> bool:
        if not (self.source_contains or self.destination_contains):
            return True
        source, destination = shown_ends(record)
        return self.source_contains in source and self.destination_contains in destination


def find_newest(ledger: Ledger, asked: Asked) -> Row | None:
    """The newest transfer, in any state, from this source to this destination."""
    from orchestrator.pages import rows

    identity = asked.identity
    shard = ledger.prefix(ledger.new_id(identity))
    for row in rows(ledger, {"dest": (identity,)}, prefixes=[shard]):
        try:
            found = row[0].spec
        except LedgerCorrupt:
            continue
        if found.source_profile == asked.spec.source_profile and locations(found)[0].identity == asked.source.identity:
            return row
    return None


def _states(given: State | str | Collection[State | str]) -> tuple[str, ...]:
    several = [given] if isinstance(given, str) else list(given)
    for each in several:
        if each not in list(State):
            raise InvalidSpec("state", each, ", ".join(State))
    return tuple(str(each) for each in several)
