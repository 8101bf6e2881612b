"""The client for asyncio on a real ledger."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
import redis

from haulage import (
    AsyncTransferClient,
    ClientClosed,
    InvalidSpec,
    State,
    TransferCancelled,
    TransferClient,
    TransferNotFound,
    WaitTimeout,
)
from orchestrator.settings import Settings
from tests.integration.ledger_world import World
from tests.servers.process import wait_until


def run(settings: Settings, what: Callable[[AsyncTransferClient], Awaitable[None]]) -> None:
    """In a loop of its own, with a client that is closed at the end."""

    async def main() -> None:
        async with AsyncTransferClient(settings) as client:
            await asyncio.wait_for(what(client), 60)
        assert client.is_closed

    asyncio.run(main())


def test_the_asynchronous_client_has_every_method_of_the_other() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    replaced = {"on_progress", "remove_listener", "clear_listeners"}  # by the iterator progress()
    missing = public(TransferClient) - public(AsyncTransferClient) - replaced
    assert missing == set()
    assert AsyncTransferClient.pause_all.__doc__ == TransferClient.pause_all.__doc__


def test_calls_are_coroutines_with_the_same_answers_and_errors(client: redis.Redis, settings: Settings) -> None:
    async def use(user: AsyncTransferClient) -> None:
        sent = await user.submit("/from/a", "/to/a", tenant="red")
        paused = await user.submit_paused("/from/b", "/to/b")
        many = await user.submit_many([("/from/c", "/to/c"), ("/from/d", "/to/a")])

        assert [each.status for each in many] == ["taken", "refused"]
        assert (await user.get(sent)).tenant == "red"
        assert await user.find("/from/a", "/to/a") == await user.get(sent)
        assert [each.transfer_id for each in await user.list(state="paused")] == [paused]
        assert (await user.snapshot()).active == 2
        assert await user.resume(paused) is State.QUEUED
        assert len((await user.cancel_all(source_contains="/from/")).changed) == 3
        with pytest.raises(InvalidSpec, match="source"):
            await user.upload("https://h/a", "s3://b/k")
        with pytest.raises(TransferNotFound):
            await user.get("s0-none")

    run(settings, use)


def test_hundreds_may_wait_with_few_threads(client: redis.Redis, settings: Settings) -> None:
    """BN-03: waiting gives the result or its error."""

    async def use(user: AsyncTransferClient) -> None:
        sent = [each.transfer_id for each in await user.submit_many([(f"/from/{n}", f"/to/{n}") for n in range(300)])]
        waiting = [asyncio.create_task(user.wait(each)) for each in sent]
        waiting_for_all = [asyncio.create_task(user.wait_all(sent[at:])) for at in range(0, 300, 3)]
        with pytest.raises(WaitTimeout):
            await user.wait(sent[0], timeout_seconds=0.1)
        with pytest.raises(WaitTimeout, match="300 transfers"):
            await user.wait_all(sent, timeout_seconds=0.1)
        assert threading.active_count() < 50

        await user.cancel_all()

        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in ended} == {TransferCancelled}
        for at, all_ended in enumerate(await asyncio.gather(*waiting_for_all)):
            assert [each.transfer_id for each in all_ended] == sent[3 * at :]

    run(settings, use)


def test_giving_up_a_wait_leaves_the_transfer_alone(client: redis.Redis, settings: Settings) -> None:
    """BN-03: dropping the handle does not cancel."""

    async def use(user: AsyncTransferClient) -> None:
        sent = await user.submit("/from/a", "/to/a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(user.wait(sent), 0.2)
        assert (await user.get(sent)).state is State.PREPARING

    run(settings, use)


def test_events_are_iterated_until_the_end_of_the_transfer(world: World, settings: Settings) -> None:
    async def use(user: AsyncTransferClient) -> None:
        sent = await user.submit("/from/a", "/to/a")
        kinds = []
        async for event in user.events(sent):
            kinds.append(event.kind)
            if event.kind == "queued":
                await user.pause(sent)
            if event.kind == "paused":
                await user.cancel(sent)
        assert kinds == ["queued", "paused", "cancelled"]
        assert [each.kind async for each in user.events(sent, kinds=["paused"], follow=False)] == ["paused"]
        with pytest.raises(TransferNotFound):
            await anext(user.events("s0-none"))

    run(settings, use)


def test_progress_is_iterated_until_the_end_of_the_transfer(world: World, settings: Settings) -> None:
    async def use(user: AsyncTransferClient) -> None:
        sent = await user.submit("/from/a", "/to/a")
        states = []
        async for update in user.progress(sent, interval_seconds=0.02):
            states.append(update.transfer.state)
            if update.event and update.event.kind == "queued":
                await user.cancel(sent)
        assert states[-1] is State.CANCELLED

    run(settings, use)


def test_an_iteration_that_is_left_early_ends_its_thread(client: redis.Redis, settings: Settings) -> None:
    def readers() -> int:
        return sum(each.name in ("haulage-events", "haulage-callbacks") for each in threading.enumerate())

    async def use(user: AsyncTransferClient) -> None:
        await user.submit("/from/a", "/to/a")
        async with aclosing(user.events()) as events:
            assert (await anext(events)).kind == "queued"
        sent = await user.submit("/from/b", "/to/b")
        async with aclosing(user.progress(sent)) as updates:
            assert (await anext(updates)).transfer.transfer_id == sent
        await asyncio.to_thread(wait_until, lambda: readers() == 0, "the end of the readers", deadline_seconds=30)

    run(settings, use)


def test_what_is_iterated_when_the_client_closes_ends_with_an_error(client: redis.Redis, settings: Settings) -> None:
    async def main() -> None:
        user = AsyncTransferClient(settings)
        sent = await user.submit("/from/a", "/to/a")

        async def iterate_events() -> None:
            async for _ in user.events():
                seen.set()

        async def iterate_progress() -> None:
            async for _ in user.progress(sent):
                pass

        seen = asyncio.Event()
        tasks = [asyncio.create_task(iterate_events()), asyncio.create_task(iterate_progress())]
        tasks.append(asyncio.create_task(user.wait(sent)))  # type: ignore[arg-type]  # a coroutine of another result
        await asyncio.wait_for(seen.wait(), 30)

        await user.close()

        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert [type(each) for each in ended] == [ClientClosed] * 3

    asyncio.run(main())
