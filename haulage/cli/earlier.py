"""What ``cp`` makes of an earlier transfer of the same ends: had it other options, is what it made still there."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.spec import TransferSpec, build_spec, inside_folder
from orchestrator.states import State

if TYPE_CHECKING:
    from orchestrator.settings import Settings
    from orchestrator.views import Transfer
    from providers.schemes import Location

_FIELDS = {"copy": "copy_mode"}
_FLAGS = {"headers": "--header"}
_OF_NO_BYTE = frozenset(
    {"idempotency_key", "keep_partial", "notify", "parts_in_flight", "pool", "priority", "reference", "tenant"}
)
"""Options that change nothing of what is stored: they are not worth sending it again."""
_SETTLED_SECONDS = 2.0
"""Between the last write of a file and the record of its end."""


class Earlier:
    """``recorded`` is the spec of the earlier transfer, ``given`` the options on the command line now."""

    def __init__(
        self, settings: Settings, recorded: TransferSpec, ends: tuple[str, str], given: Mapping[str, Any]
    ) -> None:
        self._host = settings.host
        self._recorded = recorded
        self._given = given
        source, destination = ends
        self._asked, self._source, self._destination = build_spec(
            settings, source=source, destination=destination, **given
        )

    def changed(self) -> list[str]:
        """Options given now that it was not submitted with, as a shell has them, and that may make another object."""
        return [_flag(each) for each in self._given if each not in _OF_NO_BYTE and self._differs(each)]

    def unheeded(self) -> list[str]:
        """Options given now that differ too, and stay as they were submitted if it goes on."""
        return [_flag(each) for each in self._given if each in _OF_NO_BYTE and self._differs(each)]

    def still_there(self, found: Transfer) -> bool:
        """Whether nothing is left to do: it completed, and neither the file it made nor its source changed since.

        Only for a file of this host, and only while nobody says what to do with what is there.
        """
        if found.state is not State.COMPLETED or found.result.get("skipped") or found.ended_at is None:
            return False
        if "on_exists" in self._given or self.changed() or self._asked.source != self._recorded.source:
            return False
        size = found.result.get("size_bytes")
        made = self._destination
        if made.url.endswith("/") and made.scheme.kind == "path":
            made = inside_folder(made, found.result.get("name", ""))
        if not self._is_file(made, size, found.ended_at + _SETTLED_SECONDS):
            return False
        began = found.started_at or found.created_at
        return self._source.scheme.kind != "path" or self._is_file(self._source, size, began)

    def _differs(self, option: str) -> bool:
        name = _FIELDS.get(option, option)
        now, then = getattr(self._asked, name), getattr(self._recorded, name)
        if name == "on_exists" and then is None:
            then = "fail" if self._destination.scheme.kind == "path" else "overwrite"
        return bool(now != then)

    def _is_file(self, at: Location, size_bytes: int | None, unchanged_since: float) -> bool:
        """Of this host, of this size, and not written later."""
        if at.scheme.kind != "path" or at.host != self._host:
            return False
        try:
            seen = os.stat(at.key)
        except OSError:
            return False
        return stat.S_ISREG(seen.st_mode) and seen.st_size == size_bytes and seen.st_mtime <= unchanged_since


def _flag(option: str) -> str:
    return _FLAGS.get(option, f"--{option.replace('_', '-')}")
