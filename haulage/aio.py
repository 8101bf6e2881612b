"""The client for asyncio: the same calls as coroutines, and events and progress as asynchronous iterators."""

from __future__ import annotations

import asyncio
import builtins
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from haulage.client import TransferClient
from orchestrator.errors import WaitTimeout
from orchestrator.settings import Settings
from orchestrator.submitting import Place
from orchestrator.views import Transfer
from orchestrator.waiting import WaitingForAll, look_for_end, pauses

if TYPE_CHECKING:
    from orchestrator.events import Event
    from orchestrator.listeners import Update

P = ParamSpec("P")
T = TypeVar("T")

_AHEAD = 1000
"""Events read ahead of a slow consumer."""
_LOOK_SECONDS = 0.5
"""How soon a waiting iterator notices that the client was closed."""
_LAST_KINDS = ("completed", "failed", "cancelled")


def _in_thread(
    method: Callable[Concatenate[TransferClient, P], T],
) -> Callable[Concatenate[AsyncTransferClient, P], Coroutine[Any, Any, T]]:
    async def call(self: AsyncTransferClient, /, *args: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(functools.partial(method, self.client, *args, **options))

    functools.update_wrapper(call, method)
    return call


class AsyncTransferClient:
    """Each method does what its namesake of TransferClient does, in a thread. ``client`` is the one underneath.

    Cancelling a coroutine leaves the transfer alone: what was asked of Redis just then may still be done.
    """

    def __init__(
        self, settings: Settings | None = None, *, client: TransferClient | None = None, **overrides: Any
    ) -> None:
        self.client = client or TransferClient(settings, **overrides)

    @classmethod
    async def embedded(cls, **overrides: Any) -> Self:
        """A client of this machine's own engine, see TransferClient.embedded."""
        return cls(client=await asyncio.to_thread(functools.partial(TransferClient.embedded, **overrides)))

    submit_many = _in_thread(TransferClient.submit_many)
    get = _in_thread(TransferClient.get)
    list = _in_thread(TransferClient.list)
    snapshot = _in_thread(TransferClient.snapshot)
    history = _in_thread(TransferClient.history)
    workers = _in_thread(TransferClient.workers)
    pause = _in_thread(TransferClient.pause)
    resume = _in_thread(TransferClient.resume)
    cancel = _in_thread(TransferClient.cancel)
    retry = _in_thread(TransferClient.retry)
    pause_all = _in_thread(TransferClient.pause_all)
    resume_all = _in_thread(TransferClient.resume_all)
    cancel_all = _in_thread(TransferClient.cancel_all)
    retry_all = _in_thread(TransferClient.retry_all)
    renew_plan = _in_thread(TransferClient.renew_plan)
    keep = _in_thread(TransferClient.keep)
    close = _in_thread(TransferClient.close)
    shutdown = _in_thread(TransferClient.shutdown)

    # These take any option, so that their types cannot be carried over.

    async def submit(self, source: Place, destination: Place, **options: Any) -> str:
        """Queue a transfer and return its id."""
        return await asyncio.to_thread(functools.partial(self.client.submit, source, destination, **options))

    async def submit_paused(self, source: Place, destination: Place, **options: Any) -> str:
        """Register a transfer; it starts when it is resumed."""
        return await asyncio.to_thread(functools.partial(self.client.submit_paused, source, destination, **options))

    async def upload(self, path: Place, destination: Place, **options: Any) -> str:
        """``submit`` of a local path."""
        return await asyncio.to_thread(functools.partial(self.client.upload, path, destination, **options))

    async def download(self, source: Place, path: Place, **options: Any) -> str:
        """``submit`` to a local path."""
        return await asyncio.to_thread(functools.partial(self.client.download, source, path, **options))

    async def copy(self, source: Place, destination: Place, **options: Any) -> str:
        """``submit`` between two stores."""
        return await asyncio.to_thread(functools.partial(self.client.copy, source, destination, **options))

    async def find(self, source: Place, destination: Place, **options: Any) -> Transfer | None:
        """The newest transfer from this source to this destination."""
        return await asyncio.to_thread(functools.partial(self.client.find, source, destination, **options))

    async def wait(self, transfer_id: str, *, timeout_seconds: float | None = None) -> Transfer:
        """As TransferClient.wait; between two looks it holds no thread, so thousands may wait."""
        held = self.client._held
        for pause in pauses(timeout_seconds):
            state, ended = await asyncio.to_thread(look_for_end, held, transfer_id)
            if ended:
                return ended
            if pause is None:
                raise WaitTimeout(f"transfer {transfer_id} is still {state} after {timeout_seconds} s")
            await asyncio.sleep(pause)
        raise AssertionError("pauses end with None")

    async def wait_all(
        self, transfer_ids: Sequence[str], *, timeout_seconds: float | None = None
    ) -> builtins.list[Transfer]:
        """As TransferClient.wait_all, and no thread is held between two looks."""
        waiting = WaitingForAll(self.client._held, transfer_ids, timeout_seconds)
        for pause in pauses(timeout_seconds):
            if await asyncio.to_thread(functools.partial(waiting.look, is_last=pause is None)):
                break
            await asyncio.sleep(waiting.rest(pause))
        return waiting.ended()

    async def events(
        self,
        transfer_id: str | None = None,
        *,
        after: str = "0",
        kinds: Collection[str] | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """As TransferClient.events. It holds a thread of its own, which ends within about a second of the iteration."""
        stream: _Stream[Event] = _Stream(self.client)
        read = functools.partial(self.client._events, transfer_id, after=after, kinds=kinds, follow=follow)
        found = await asyncio.to_thread(functools.partial(read, stop=stream.stop))
        threading.Thread(target=stream.pump, args=(found,), name="haulage-events", daemon=True).start()
        try:
            async for each in stream.items():
                yield each
        finally:
            stream.stop.set()

    async def progress(
        self, transfer_id: str | None = None, *, interval_seconds: float = 0.2
    ) -> AsyncGenerator[Update, None]:
        """What ``on_progress`` calls back with: of one transfer until it has ended, or of all without end."""
        stream: _Stream[Update] = _Stream(self.client)

        def tell(update: Update) -> None:
            if update.event or not stream.is_full:  # frames may be missed, events not
                stream.put(update)

        add = functools.partial(self.client.on_progress, tell, transfer_id, interval_seconds=interval_seconds)
        listener_id = await asyncio.to_thread(add)
        try:
            async for each in stream.items():
                yield each
                if transfer_id is not None and each.event and each.event.kind in _LAST_KINDS:
                    return
        finally:
            if not self.client.is_closed:
                self.client.remove_listener(listener_id)

    @property
    def is_closed(self) -> bool:
        return self.client.is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Stop(threading.Event):
    """Set by its owner, and by the end of the client."""

    def __init__(self, client: TransferClient) -> None:
        super().__init__()
        self._client = client

    def is_set(self) -> bool:
        return super().is_set() or self._client.is_closed

    def check_open(self) -> None:
        """Raises ClientClosed."""
        self._client._held.check_open()


class _Stream(Generic[T]):
    """From a thread into the running loop, in order."""

    def __init__(self, client: TransferClient) -> None:
        self.stop = _Stop(client)
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | BaseException | None] = asyncio.Queue()
        self._taken = threading.Event()

    @property
    def is_full(self) -> bool:
        return self._queue.qsize() >= _AHEAD

    def put(self, item: T | BaseException | None) -> None:
        """Never waits; what comes after the loop's end is lost."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def pump(self, found: Iterator[T]) -> None:
        """Read ``found`` to its end, not far ahead of the consumer."""
        try:
            for each in found:
                self.put(each)
                while self.is_full and not self.stop.is_set():
                    self._taken.clear()
                    self._taken.wait(_LOOK_SECONDS)
                if self.stop.is_set():
                    self.stop.check_open()
                    break
        except BaseException as exc:
            self.put(exc)
        self.put(None)

    async def items(self) -> AsyncGenerator[T, None]:
        """Until the thread has said its last. Raises what ended it, and ClientClosed."""
        while True:
            try:
                item = await asyncio.wait_for(self._queue.get(), _LOOK_SECONDS)
            except TimeoutError:
                self.stop.check_open()
                continue
            self._taken.set()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
