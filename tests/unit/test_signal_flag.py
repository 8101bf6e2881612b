"""A flag that a signal handler may set while the same thread waits on it."""

from __future__ import annotations

import os
import signal
import time

from orchestrator.signal_flag import SignalFlag


def test_a_handler_ends_the_wait_of_its_own_thread() -> None:
    flag = SignalFlag()
    before = signal.signal(signal.SIGALRM, lambda *_: flag.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert flag.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_may_set_it_at_any_moment() -> None:
    flag = SignalFlag()
    before = signal.signal(signal.SIGALRM, lambda *_: flag.set())
    try:
        for _ in range(200):
            os.kill(os.getpid(), signal.SIGALRM)
            assert flag.wait(0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_wait_that_nobody_ends_is_over_in_time() -> None:
    began = time.monotonic()

    assert not SignalFlag().wait(0.01)
    assert time.monotonic() - began >= 0.01
