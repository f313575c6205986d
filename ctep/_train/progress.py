"""What a person sees while a network trains."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Reporter:
    """A progress bar with the time left on a terminal, one line per epoch elsewhere.

    Args:
        epochs: of the whole run.
        batches: per epoch.
        done: batches that a resumed run has behind it.
        show: `False` for silence.
    """

    def __init__(self, epochs: int, batches: int, done: int, show: bool):
        self._console = Console(stderr=True)
        self._live = show and (self._console.is_terminal or self._console.is_jupyter)
        self._show, self._epochs, self._batches = show, epochs, batches
        self._start = time.monotonic()
        self._fresh = -done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(
            "compiling", total=epochs * batches, completed=done
        )

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def batch(self, epoch: int, done: int) -> None:
        """Say that `done` batches of the whole run are behind us."""
        text = f"epoch {epoch}/{self._epochs}"
        self._bar.update(self._task, description=text, completed=done)

    def epoch(self, record: dict) -> None:
        """Print one epoch's record on a line."""
        if not self._show:
            return
        text = f"epoch {record['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
        text += f"  loss {record['loss']:.4f}  train {_percent(record, 'train')}"
        if record["test_accuracy"] is not None:
            text += f"  test {_percent(record, 'test')}"
        if record.get("validation_accuracy") is not None:
            text += f"  validation {_percent(record, 'validation')}"
        text += f"  sweeps {record['sweeps']:.1f}"
        text += f"  unsettled {100 * record['unsettled']:.2g} %"
        if record["gradient_cosine"] is not None:
            text += f"  cosine {record['gradient_cosine']:.4f}"
        self.say(f"{text}  {record['seconds']:.1f} s")

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if not self._show:
            return
        if self._live:
            self._console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _percent(record, name):
    return f"{100 * record[name + '_accuracy']:.2f} %"
