"""What a person sees while a network trains."""

import sys
import time

from .._text import printable


class Reporter:
    """A progress bar with the time left on a terminal, one line per epoch elsewhere.

    In a notebook all epochs share one line, which is written over.

    Args:
        epochs: number of epochs of the whole run.
        batches: number of batches per epoch.
        done: batches that a resumed run has behind it.
        show: `False` for silence; a text is printed before anything else.
    """

    def __init__(self, epochs: int, batches: int, done: int, show: bool | str):
        self._epochs = epochs
        self._screen = _screen(epochs * batches, done) if show else None
        if show and isinstance(show, str):
            print(printable(show), flush=True)

    def __enter__(self):
        if self._screen is not None:
            self._screen.start()
        return self

    def __exit__(self, *error):
        if self._screen is not None:
            self._screen.stop()

    def batch(self, epoch: int, done: int) -> None:
        """Say that `done` batches of the whole run are behind us."""
        if self._screen is not None:
            self._screen.batch(f"epoch {epoch}/{self._epochs}", done)

    def epoch(self, record: dict) -> None:
        """Print one epoch's record on a line."""
        if self._screen is None:
            return
        text = f"epoch {record['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
        loss = "-" if record["loss"] is None else f"{record['loss']:.4f}"
        text += f"  loss {loss}"
        for split in ("train", "test", "validation"):
            if record.get(f"{split}_accuracy") is not None:
                text += f"  {split} {100 * record[f'{split}_accuracy']:.2f} %"
            if record.get(f"{split}_r2") is not None:
                text += f"  {split} R2 {record[f'{split}_r2']:.4f}"
        text += f"  sweeps {record['sweeps']:.1f}"
        text += f"  unsettled {100 * record['unsettled']:.3g} %"
        if record.get("as_published"):
            text += f"  as published {100 * record['as_published']:.3g} %"
        if record["gradient_cosine"] is not None:
            text += f"  cosine {record['gradient_cosine']:.4f}"
        self._screen.epoch(printable(f"{text}  {record['seconds']:.1f} s"))
        for fault in record["faults"]:
            self.say(f"warning: {fault['text']}")

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if self._screen is not None:
            self._screen.say(printable(text))


class _Lines:
    """A line per epoch, where nobody could see anything move."""

    def start(self):
        pass

    def stop(self):
        pass

    def batch(self, text, done):
        pass

    def epoch(self, text):
        self.say(text)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)


class _Overwritten:
    """One line that is written over: a notebook needs no widgets for that."""

    def __init__(self, total):
        self._total, self._first, self._record, self._width = total, None, "", 0

    def start(self):
        pass

    def stop(self):
        # After a warning the last record is not on the line any more.
        if self._width or self._record:
            self._write(self._record)
            print(flush=True)

    def batch(self, text, done):
        now = time.monotonic()
        # The first batches were compiled too, which says nothing of those to come.
        then, before = self._first = self._first or (now, done)
        text = f"{text}  {done}/{self._total} batches"
        if done > before:
            left = (now - then) * (self._total - done) / (done - before)
            text += f"  {left:.0f} s left"
        self._write(f"{text}  (last: {self._record})" if self._record else text)

    def epoch(self, text):
        self._record = text
        self._write(text)

    def say(self, text):
        self._write(text)
        print(flush=True)
        self._width = 0

    def _write(self, text):
        # Blanks cover what is left of a longer text before.
        print(f"\r{text:<{self._width}}", end="", flush=True)
        self._width = len(text)


class _Bar:
    """A bar that moves on a terminal."""

    def __init__(self, console, total, done):
        from rich import progress

        self._console = console
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("batches"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("compiling", total=total, completed=done)
        self.start, self.stop = self._bar.start, self._bar.stop

    def batch(self, text, done):
        self._bar.update(self._task, description=text, completed=done)

    def epoch(self, text):
        self.say(text)

    def say(self, text):
        self._console.print(text, markup=False, highlight=False)


def _screen(total, done):
    """Return what shows progress here."""
    # Only here: a run without progress, on a machine of its own, needs no rich.
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return _Overwritten(total)
    return _Bar(console, total, done) if console.is_terminal else _Lines()
