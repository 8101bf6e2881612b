"""Ending another thread's wait for the network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from providers.errors import StopRequested
from providers.interrupts import Interrupt, interruptible, waiting


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        yield ours, theirs


def received(
    sock: socket.socket, interrupt: Interrupt, *, grace_seconds: float = 0.0
) -> tuple[threading.Thread, list[bytes]]:
    """A thread that waits for bytes, and what it got; it waits already when this returns."""
    got: list[bytes] = []
    begun = threading.Event()

    def wait() -> None:
        with interruptible(interrupt), waiting(sock, grace_seconds=grace_seconds):
            begun.set()
            got.append(sock.recv(10))

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(10)
    return thread, got


def test_a_thread_that_waits_for_a_silent_peer_is_woken(pair: tuple[socket.socket, socket.socket]) -> None:
    interrupt = Interrupt()
    thread, got = received(pair[0], interrupt)

    interrupt.fire()
    thread.join(10)

    assert got == [b""]


def test_a_reply_that_is_on_its_way_is_still_read_within_the_grace(pair: tuple[socket.socket, socket.socket]) -> None:
    interrupt = Interrupt()
    thread, got = received(pair[0], interrupt, grace_seconds=15.0)

    interrupt.fire()
    pair[1].sendall(b"stored")
    thread.join(10)

    assert got == [b"stored"]


def test_the_grace_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    interrupt = Interrupt()
    thread, got = received(pair[0], interrupt, grace_seconds=0.01)

    interrupt.fire()
    thread.join(10)

    assert got == [b""]


def test_no_wait_begins_after_the_interrupt(pair: tuple[socket.socket, socket.socket]) -> None:
    interrupt = Interrupt()
    interrupt.fire()

    with interruptible(interrupt), pytest.raises(StopRequested), waiting(pair[0]):
        pytest.fail("the wait began")


def test_a_socket_that_went_on_to_others_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    interrupt = Interrupt()
    with interruptible(interrupt), waiting(pair[0]):
        pass

    interrupt.fire()
    pair[1].sendall(b"theirs")

    assert pair[0].recv(10) == b"theirs"


def test_threads_that_nobody_may_interrupt_wait_as_ever(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].sendall(b"bytes")

    with waiting(pair[0]) as alive:
        alive()
        assert pair[0].recv(10) == b"bytes"
