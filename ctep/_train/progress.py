"""What a person sees while a network trains."""

import sys

from .._text import printable


class Reporter:
    """A progress bar with the time left on a terminal, one line per epoch elsewhere.

    Args:
        epochs: number of epochs of the whole run.
        batches: number of batches per epoch.
        done: batches that a resumed run has behind it.
        show: `False` for silence.
    """

    def __init__(self, epochs: int, batches: int, done: int, show: bool):
        self._show, self._epochs = show, epochs
        self._bar = _bar(epochs * batches, done) if show else None

    def __enter__(self):
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.stop()

    def batch(self, epoch: int, done: int) -> None:
        """Say that `done` batches of the whole run are behind us."""
        if self._bar is not None:
            text = f"epoch {epoch}/{self._epochs}"
            self._bar.update(self._bar.task_ids[0], description=text, completed=done)

    def epoch(self, record: dict) -> None:
        """Print one epoch's record on a line."""
        if not self._show:
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
        self.say(f"{text}  {record['seconds']:.1f} s")
        for fault in record["faults"]:
            self.say(f"warning: {fault['text']}")

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if not self._show:
            return
        text = printable(text)
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            # Else rich would read what stands in brackets as markup of its own.
            self._bar.console.print(text, markup=False, highlight=False)


def _bar(total, done):
    """Return a progress bar, `None` where nobody could see it move."""
    # Only here: a run without progress, on a machine of its own, needs no rich.
    from rich import console, progress

    screen = console.Console(stderr=True)
    if not (screen.is_terminal or screen.is_jupyter):
        return None
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("batches"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=screen,
    )
    bar.add_task("compiling", total=total, completed=done)
    return bar
