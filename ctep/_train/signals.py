"""Ctrl-C and SIGTERM finish what is running; a second Ctrl-C stops at once."""

import signal
import threading


class Interruption:
    """Remembers the first SIGINT or SIGTERM, within a `with` block.

    Outside the main thread Python delivers no signals, and it does nothing.
    """

    def __init__(self):
        self.signal: int | None = None
        self._old = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt
        # No exception yet, which would lose the chunk that the devices are working on.
        self.signal = number
