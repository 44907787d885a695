"""A chat template rendered within bounds of time, memory and output: it is a program that came with somebody's model.

The sandbox keeps it from files and modules, and not from going on for ever. Its first chats are rendered in a process of
their own before they are rendered here, since one operation of Python's core can take hours and heeds no signal. Later ones
are looked after by a timer, which costs a chat nothing that can be measured.
"""

import atexit
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import PreTrainedTokenizerBase

from ftkit.errors import UserError

try:
    import resource
except ImportError:  # Windows has neither limits nor the timer
    resource = None  # type: ignore[assignment]

KEY = "data.chat_template"
SECONDS = 2  # of the processor; a long chat takes milliseconds
MEMORY = 1 << 30
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
CHARACTERS = 16 << 20  # more than the chat's own
TRIED = 2  # chats of each template in a process of their own
PATIENCE = 60  # seconds of the clock for one of them, on a machine that does other things as well
DONE, TOO_MUCH_MEMORY, TOO_LONG_TEXT = 0, 3, 4
HINT = f"mend it, or give another with {KEY}"

TIME, SPACE, LENGTH = (
    f"more than {SECONDS} s",
    "more than 1 GiB of memory",
    f"more than {CHARACTERS:,} characters beyond its own",
)

_tried: Counter[str] = Counter()
_refused: dict[str, str] = {}


class OutOfBoundsError(Exception):
    """What the timer finds, or a text too long; no error that a filter of Jinja would take for one of its own."""


class Watch:
    """Looks every tenth of a second of the processor whether a chat is rendered for too long, or takes too much memory.

    It begins with a chat and ends itself when none was rendered for that time. In the main thread alone: others get no
    signals.
    """

    TICK = 0.1

    def __init__(self) -> None:
        self.chat, self.seen, self.rendering, self.armed = 0, 0, False, False
        self.began, self.size = 0.0, 0
        self.before: Any = None

    @contextmanager
    def over(self) -> Iterator[None]:
        """Raises OutOfBoundsError in the block, which renders one chat."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            yield
            return
        self.chat += 1
        if not self.armed:
            self.before = signal.signal(signal.SIGVTALRM, self._look)
            signal.siginterrupt(signal.SIGVTALRM, False)
            signal.setitimer(signal.ITIMER_VIRTUAL, self.TICK, self.TICK)
            self.armed = True
        self.rendering = True
        try:
            yield
        finally:
            self.rendering = False

    def end(self) -> None:
        """Leave the signal as it was found."""
        if self.armed:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL if self.before is None else self.before)  # None: of C
            self.armed = False

    def _look(self, number: int, frame: FrameType | None) -> None:
        if self.seen != self.chat:
            self.seen, self.began, self.size = self.chat, time.thread_time(), _size() or 0
        elif not self.rendering:
            self.end()
        elif time.thread_time() - self.began > SECONDS:
            raise OutOfBoundsError(TIME)
        elif (_size() or 0) - self.size > MEMORY:
            raise OutOfBoundsError(SPACE)


def render_chat_template(tokenizer: PreTrainedTokenizerBase, messages: list[Any], **options: Any) -> str:
    """The text that the tokenizer's chat template makes of a chat.

    Args:
        options: of `apply_chat_template`.

    Raises:
        UserError: it takes longer, or more memory, or makes more text than any chat needs.
        Exception: whatever the template, or Jinja, raises.
    """
    found = tokenizer.chat_template  # some have several by name
    name = found if isinstance(found, str) else repr(found)
    if name in _refused:
        raise UserError(_refused[name], HINT, key=KEY)

    def render() -> str:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
        if len(text) > CHARACTERS and len(text) > CHARACTERS + 2 * len(str(messages)):  # a chat may be as long itself
            raise OutOfBoundsError(LENGTH)
        return text

    try:
        return _rendered(name, render)
    except UserError as error:
        _refused[name] = error.message  # what is tried in several forms waits once
        raise


def _rendered(name: str, render: Callable[[], str]) -> str:
    if _tried[name] < TRIED and hasattr(os, "fork"):
        _tried[name] += 1
        _try_apart(render)
    try:
        with _watch.over():
            return render()
    except OutOfBoundsError as error:
        raise _refusal(str(error)) from None
    except MemoryError:
        raise _refusal(SPACE) from None


def _refusal(what: str) -> UserError:
    return UserError(f"the chat template takes {what} for one chat", HINT, key=KEY)


def _try_apart(render: Callable[[], str]) -> None:
    """Render in a process of its own, which the system ends where it takes too much.

    One that neither ends nor computes has met a lock that a thread held when it was begun, and tells nothing.

    Raises:
        UserError: it did. What else goes wrong there goes wrong here, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that the child has not; it needs none
        child = os.fork()
    if child == 0:
        _render_and_exit(render)
    given_up = threading.Event()

    def give_up() -> None:
        given_up.set()
        os.kill(child, signal.SIGKILL)

    timer = threading.Timer(PATIENCE, give_up)
    timer.start()
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # who started this process ignores how children end: it tells nothing either
        return
    finally:
        timer.cancel()
    if given_up.is_set():
        return
    if os.WIFSIGNALED(status):
        if (number := os.WTERMSIG(status)) == signal.SIGXCPU:
            raise _refusal(TIME)
        raise UserError(f"the chat template ended the process that rendered it, by signal {number}", HINT, key=KEY)
    if found := {TOO_MUCH_MEMORY: SPACE, TOO_LONG_TEXT: LENGTH}.get(os.WEXITSTATUS(status)):
        raise _refusal(found)


def _render_and_exit(render: Callable[[], str]) -> None:
    """In the child: nothing of the parent's is written, flushed or closed."""
    status = DONE
    try:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
            signal.signal(name, signal.SIG_DFL)
        _lower(resource.RLIMIT_CPU, SECONDS)  # a new process has used nothing
        if (size := _size()) is not None:
            _lower(resource.RLIMIT_AS, size + MEMORY)
        render()
    except MemoryError:
        status = TOO_MUCH_MEMORY
    except OutOfBoundsError:
        status = TOO_LONG_TEXT
    except BaseException:  # the parent meets it, too
        status = DONE
    finally:
        os._exit(status)


def _size() -> int | None:
    """Bytes of address space that the process has; None where the system does not tell."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None
    try:
        return int(os.read(file, 100).partition(b" ")[0]) * PAGE
    finally:
        os.close(file)


def _lower(kind: int, value: int) -> None:
    """Lower a limit of this process, never raising it."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (min(limit for limit in (soft, hard, value) if limit != resource.RLIM_INFINITY), hard))


_watch = Watch()
atexit.register(_watch.end)  # a process on its way out has no handler any more, and the signal would end it
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.end)  # timers are not inherited
