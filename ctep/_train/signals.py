"""Ctrl-C and SIGTERM finish what is running; a second Ctrl-C stops at once."""

import signal
import threading
from typing import Any, NoReturn


class Interruption:
    """Remembers the first SIGINT or SIGTERM, within a `with` block.

    Outside the main thread Python delivers no signals, and it does nothing. Nor does it
    where the process was told to ignore one, as a job of a shell's background is.
    """

    def __init__(self):
        self.signal: int | None = None
        self._old = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error):
        for number, handler in self._old.items():
            # None stands for a handler that Python did not set and cannot restore.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _remember(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt
        # No exception yet, which would lose the chunk that the devices are working on.
        self.signal = number


def pass_on(number: int, result: Any) -> NoReturn:
    """Do what the signal would have done without us, with `result` on the exception.

    A handler of the caller's own is called; should it return, the process ends as by
    the signal, but through `finally` and the like.
    """
    error: BaseException = SystemExit(128 + number)
    if number == signal.SIGINT:
        error = KeyboardInterrupt(result.reason)
    if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler):
        signal.raise_signal(number)
    error.result = result  # pyright: ignore[reportAttributeAccessIssue]
    raise error
