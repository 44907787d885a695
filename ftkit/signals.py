"""SIGTERM and SIGHUP as Ctrl-C: they end what is going on in order, and the exit status says which it was.

A signal that is ignored when the process begins, as SIGHUP under nohup, stays ignored.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))  # Windows has no SIGHUP
AGAIN = 10.0  # seconds after which a signal comes again that somebody's `except` has swallowed

_received: list[int] = []
_tellers: list[threading.Timer] = []


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end; what heeds Ctrl-C heeds it.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def heed_signals() -> dict[int, object]:
    """Let the signals raise `Stopped`, where nobody handles or ignores them; only the main thread can.

    Returns:
        What handled them before, to be given to `restore_signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.signal(number, _stop) for number in ENDING if signal.getsignal(number) == signal.SIG_DFL}
    if before and not _forking:
        _forking.append(True)
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=_as_a_child)
    return dict(before)


_forking: list[bool] = []


def restore_signals(before: dict[int, object]) -> None:
    for number in before:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def signals_heeded() -> Iterator[None]:
    """As `heed_signals`, while the block runs."""
    before = heed_signals()
    try:
        yield
    finally:
        if before:
            arrived()
        restore_signals(before)


def _as_a_child() -> None:
    """A worker that was forked ends at once where its parent ends it."""
    for number in ENDING:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    note(number)
    teller = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    teller.daemon = True
    _tellers.append(teller)
    teller.start()
    raise Stopped(number)


def note(number: int) -> None:
    """A signal has come, by which the exit status is known."""
    _received.append(number)


def arrived() -> None:
    """Whoever brings things in order has heard of the signal, which need not come again."""
    while _tellers:
        _tellers.pop().cancel()


def exit_status() -> int:
    """128 and the number of the signal that came first, or of Ctrl-C."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def stop_words() -> str:
    """What ended the process, for people."""
    ending = [number for number in _received if number in ENDING]
    return f"stopped by {signal.Signals(ending[0]).name}" if ending else "interrupted"


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and the signals take effect after the block; those that are ignored stay so.

    Handlers are held and not the signals themselves: one that is blocked in this thread comes to another, of which a process
    has many, and Python lets it take effect in this one all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # where they take no effect
        yield
        return
    hold = _Hold()
    try:
        for number in hold.before:
            signal.signal(number, hold)
        yield
    finally:
        hold.over = True
        try:
            hold.restore()
        finally:
            hold.restore()  # a signal that is heeded again may have cut it short
        for number in dict.fromkeys(hold.came):
            signal.raise_signal(number)


class _Hold:
    """Handles the signals of a block that holds them; where it is over, and a signal was quicker, as they were before."""

    def __init__(self) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
        self.before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
        self.came: list[int] = []
        self.over = False

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.over:
            self.came.append(number)
            return
        signal.signal(number, self.before[signal.Signals(number)])
        signal.raise_signal(number)
