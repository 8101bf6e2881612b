"""``cp``: submit, or go on with what was begun, and follow it to its end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.options import destination_of, source_of, spec_of, spec_options
from haulage.cli.output import (
    as_dict,
    errors_as_sentences,
    human_bytes,
    human_seconds,
    json_option,
    open_client,
    print_json,
    tell_if_older,
)
from orchestrator.signal_flag import SignalFlag

if TYPE_CHECKING:
    from haulage.cli.closer import CloserLook
    from haulage.cli.earlier import Earlier
    from haulage.cli.painter import Screen
    from haulage.client import TransferClient
    from orchestrator.progress import Progress
    from orchestrator.views import Transfer

_HANDED_BACK_SECONDS = 5.0
"""How long to wait, after the pause, for workers to hand their parts back."""
_PROFILES = {"source_profile", "destination_profile"}


@click.command()
@click.argument("source")
@click.argument("destination")
@spec_options
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--recursive", "-r", is_flag=True, hidden=True)
@json_option
@errors_as_sentences
def cp(source: str, destination: str, quiet: bool, recursive: bool, as_json: bool, **options: Any) -> None:
    """Copy one object from SOURCE to DESTINATION and show how far it is.

    Ctrl-C pauses it; the same command again goes on where it stopped. So it does after a crash, a reboot or a failure:
    only what was in flight is sent again. Other options begin it anew; a file that is complete is left as it is. A
    plain path means a file on this machine.

    \b
    haulage cp https://example.org/big.iso .
    haulage cp data.tar s3://bucket/2026/ --destination-profile archive
    haulage cp s3://a/key s3://b/key --source-profile old --destination-profile new
    """
    if recursive:
        raise click.UsageError("copying folders (-r) comes with a later version: name one file or object")
    with open_client() as client:
        tell_if_older(client)
        given = (source_of(source), destination_of(destination))
        _Copy(client, *given, spec_of(options), quiet=quiet, as_json=as_json).run(again=_again(source, destination))


class _Copy:
    """One run of the command."""

    def __init__(
        self,
        client: TransferClient,
        source: str,
        destination: str,
        spec: dict[str, Any],
        *,
        quiet: bool,
        as_json: bool,
    ) -> None:
        from haulage.cli.painter import screen

        self._client = client
        self._ends = (source, destination)
        self._spec = spec
        self._as_json = as_json
        self._screen: Screen = screen(quiet=quiet, clock=time.monotonic)
        self._stop = SignalFlag()
        self._stopped_by = signal.SIGINT

    def run(self, *, again: str) -> None:
        from haulage.cli.closer import CloserLook
        from orchestrator.errors import TransferCancelled, TransferFailed

        before = {each: signal.signal(each, self._interrupted) for each in (signal.SIGINT, signal.SIGTERM)}
        closer = CloserLook(self._client.settings)
        transfer_id = ""
        try:
            found = self._find()
            earlier = self._earlier(closer, found)
            if found and earlier and earlier.still_there(found):
                self._tell_already(found)
                return
            transfer_id = self._begin(found, earlier)
            transfer = self._follow(closer, transfer_id)
        except KeyboardInterrupt:
            self._leave(transfer_id)
        except (TransferFailed, TransferCancelled):
            if self._as_json:
                print_json(as_dict(self._client.get(transfer_id)))
            raise
        finally:
            for number, handler in before.items():
                # A late second Ctrl-C must not turn the exit code into a death by signal.
                signal.signal(number, signal.SIG_IGN if self._stop.is_set() else handler)
            closer.close()
        self._tell_end(transfer, again)

    def _find(self) -> Transfer | None:
        """The newest of these ends; one that is not over also where it has not the profiles that are given now."""
        found = self._client.find(*self._ends, **self._spec)
        if (found and not found.state.final) or not self._spec.keys() & _PROFILES:
            return found
        plain = {name: value for name, value in self._spec.items() if name not in _PROFILES}
        other = self._client.find(*self._ends, **plain)
        return other if other and not other.state.final else found

    def _earlier(self, closer: CloserLook, found: Transfer | None) -> Earlier | None:
        """None where there is none, or one of another version that nobody here can read."""
        from haulage.cli.earlier import Earlier
        from orchestrator.errors import LedgerCorrupt

        if found is None:
            return None
        try:
            recorded = closer.spec(found.transfer_id)
        except LedgerCorrupt:
            return None
        return Earlier(self._client.settings, recorded, self._ends, self._spec)

    def _begin(self, found: Transfer | None, earlier: Earlier | None) -> str:
        """Start anew, or go on with the transfer of the same ends that is not over."""
        from orchestrator.states import State

        if found is None or found.state.final or self._is_settled(found):
            return self._client.submit(*self._ends, **self._spec)
        if earlier and (changed := earlier.changed()):
            self._cancel(found, changed)
            return self._client.submit(*self._ends, **self._spec)
        if earlier and (unheeded := earlier.unheeded()):
            self._screen.say(f"as it was submitted at first: {', '.join(unheeded)}")
        stored = _stored(found.progress)
        match found.state:
            case State.PAUSED:
                self._client.resume(found.transfer_id)
                self._screen.say(f"resuming {found.transfer_id}: {stored}")
            case State.FAILED:
                self._client.retry(found.transfer_id)
                self._screen.say(f"trying {found.transfer_id} again: {stored}")
            case _:
                self._screen.say(f"going on with {found.transfer_id}, which is {found.state}: {stored}")
        return found.transfer_id

    def _cancel(self, found: Transfer, changed: list[str]) -> None:
        """Until its destination is free; a commit that is on its way may complete it instead."""
        from orchestrator.errors import TransferCancelled, TransferEnded, TransferFailed
        from orchestrator.states import State

        self._screen.say(f"options changed ({', '.join(changed)}): cancels {found.transfer_id} and begins anew")
        with suppress(TransferEnded, TransferCancelled, TransferFailed):
            if self._client.cancel(found.transfer_id) is not State.CANCELLED:
                self._client.wait(found.transfer_id)

    def _is_settled(self, found: Transfer) -> bool:
        """Whether it failed and stored nothing that a retry would keep."""
        from orchestrator.states import State

        return found.state is State.FAILED and not found.progress.durable_bytes

    def _follow(self, closer: CloserLook, transfer_id: str) -> Transfer:
        from haulage.cli.follow import Follower

        follower = Follower(self._client, closer, transfer_id, self._screen, pause_between=self._stop.wait)
        transfer = follower.run(until=lambda _: self._stop.is_set())
        return transfer if transfer.state.ended else self._pause(follower, closer, transfer_id)

    def _pause(self, follower: Any, closer: CloserLook, transfer_id: str) -> Transfer:
        """Until it is paused and its workers let go; a commit that is on its way is waited for."""
        from orchestrator.errors import HaulageError
        from orchestrator.states import State

        self._screen.say("pausing; Ctrl-C again leaves at once")
        try:
            self._client.pause(transfer_id)
        except HaulageError:
            if not self._client.get(transfer_id).state.ended:
                raise
        patience = time.monotonic() + _HANDED_BACK_SECONDS

        def let_go(transfer: Transfer) -> bool:
            if transfer.state is not State.PAUSED:
                return False
            return not closer.details(transfer_id).held or time.monotonic() >= patience

        follower.wait_with(time.sleep)
        transfer: Transfer = follower.run(until=let_go)
        return transfer

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._stopped_by = signal.Signals(number)
        self._stop.set()

    def _leave(self, transfer_id: str) -> None:
        """The second Ctrl-C: no clean-up of ours may hold it up."""
        self._screen.clear()
        if transfer_id:
            self._screen.say(f"left {transfer_id} as it is: haulage show {transfer_id}")
        sys.stderr.flush()
        os._exit(1)

    def _tell_end(self, transfer: Transfer, again: str) -> None:
        if self._as_json:
            print_json(as_dict(transfer))
        if transfer.state.ended:
            self._screen.say(_summary(transfer))
            return
        click.echo(f"paused {transfer.transfer_id}: {_stored(transfer.progress)}", err=True)
        click.echo(f"go on with: {again}\n        or: haulage resume {transfer.transfer_id}", err=True)
        sys.exit(128 + signal.SIGTERM if self._stopped_by is signal.SIGTERM else 1)

    def _tell_already(self, found: Transfer) -> None:
        at = datetime.fromtimestamp(found.ended_at or 0.0).astimezone().isoformat(" ", "seconds")
        self._screen.say(f"already copied at {at} by {found.transfer_id}")
        if self._as_json:
            print_json({**as_dict(found), "already": True})


def _stored(progress: Progress) -> str:
    if progress.total_bytes is None:
        return (
            f"{human_bytes(progress.durable_bytes)} are stored" if progress.durable_bytes else "nothing is stored yet"
        )
    return f"{human_bytes(progress.durable_bytes)} of {human_bytes(progress.total_bytes)} are stored"


def _summary(transfer: Transfer) -> str:
    if transfer.result.get("skipped"):
        return f"skipped: {transfer.destination} is there already"
    size = transfer.result.get("size_bytes", transfer.progress.durable_bytes)
    seconds = max(0.001, (transfer.ended_at or 0) - (transfer.started_at or transfer.created_at))
    verified = transfer.result.get("verified")
    check = f", verified by {verified}" if verified and verified != "no" else ""
    speed = f"{human_bytes(size / seconds)}/s"
    return f"copied {human_bytes(size)} in {human_seconds(seconds)} ({speed}){check}"


def _again(source: str, destination: str) -> str:
    """The command that resumes; what may be secret in a URL is not repeated on the screen."""
    from providers.schemes import redact

    secret = any(redact(each) != each for each in (source, destination)) or "--header" in " ".join(sys.argv)
    if secret or sys.argv[1:2] != ["cp"]:
        return "the same command again"
    return "haulage " + shlex.join(sys.argv[1:])
