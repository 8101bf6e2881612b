"""``cp``: submit, or go on with what was begun, and follow it to its end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
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
)

if TYPE_CHECKING:
    from haulage.cli.closer import CloserLook
    from haulage.cli.painter import Screen
    from haulage.client import TransferClient
    from orchestrator.progress import Progress
    from orchestrator.views import Transfer

_HANDED_BACK_SECONDS = 5.0
"""How long to wait, after the pause, for workers to hand their parts back."""


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
    only what was in flight is sent again. A plain path means a file on this machine.

    \b
    haulage cp https://example.org/big.iso .
    haulage cp data.tar s3://bucket/2026/ --destination-profile archive
    haulage cp s3://a/key s3://b/key --source-profile old --destination-profile new
    """
    if recursive:
        raise click.UsageError("copying folders (-r) comes with a later version: name one file or object")
    with open_client() as client:
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
        self._stop = threading.Event()

    def run(self, *, again: str) -> None:
        from haulage.cli.closer import CloserLook
        from orchestrator.errors import TransferCancelled, TransferFailed

        before = signal.signal(signal.SIGINT, self._interrupted)
        closer = CloserLook(self._client.settings)
        transfer_id = ""
        try:
            transfer_id = self._begin()
            transfer = self._follow(closer, transfer_id)
        except KeyboardInterrupt:
            self._leave(transfer_id)
        except (TransferFailed, TransferCancelled):
            if self._as_json:
                print_json(as_dict(self._client.get(transfer_id)))
            raise
        finally:
            signal.signal(signal.SIGINT, before)
            closer.close()
        self._tell_end(transfer, again)

    def _begin(self) -> str:
        """Start anew, or go on with the transfer of the same ends that is not over."""
        from orchestrator.states import State

        found = self._client.find(*self._ends, **self._spec)
        if found is None or found.state.final or self._is_settled(found):
            return self._client.submit(*self._ends, **self._spec)
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

    def _is_settled(self, found: Transfer) -> bool:
        """Whether a failed transfer is left: it stored nothing, or is told now what to do with what is there.

        A retry would keep the options it was submitted with.
        """
        from orchestrator.states import State

        if found.state is not State.FAILED:
            return False
        told = self._spec.get("on_exists") in ("skip", "overwrite")
        return not found.progress.durable_bytes or (told and found.error.get("code") == "destination_exists")

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

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
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
        sys.exit(1)


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
