"""One writer for a folder: a lock of the operating system, which ends with its process.

A file `.lock` says who holds it. What counts is not that file but the lock on it: one
that a killed process left behind is nobody's.
"""

import contextlib
import errno
import os
import socket
import weakref
from pathlib import Path

from ..._warning import warn

if os.name == "nt":
    import msvcrt
else:
    import fcntl

NAME = ".lock"
# What systems answer where another process holds a lock. Any other answer is that of a
# file system that knows none, or whose server does not answer for them.
_BUSY = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}


class Lock:
    """Held from now on, until it is released, forgotten, or its process ends.

    Processes that this one forks hold it too; those that read data do not.

    Args:
        folder: the folder of a run, which must exist.

    Raises:
        ValueError: if another run holds it, in whatever process.
        OSError: if the disk refused.
    """

    def __init__(self, folder: Path):
        path = folder / NAME
        descriptor = _locked(path)
        self.release = weakref.finalize(self, _release, path, descriptor, os.getpid())
        if descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk costs the name alone
                os.ftruncate(descriptor, 0)
                text = f"process {os.getpid()} on {socket.gethostname()}"
                os.write(descriptor, text.encode())


def _locked(path: Path) -> int | None:
    """Return a descriptor of the locked file, None where there are no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            # Its last holder may have removed it between these two lines.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise _held(path) from error
            warn(
                f"`out` ({path.parent}) is on a file system without locks "
                f"({error.strerror}): it goes on, and nothing but you keeps another "
                "run from writing there too.",
            )
            return None
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        # Nobody can read a byte that is locked, so it is one beyond the text.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _held(path: Path) -> ValueError:
    try:
        who = path.read_text(errors="replace")
    except OSError:
        who = ""
    return ValueError(
        f"`out` ({path.parent}) is being written by {who or 'another process'}: wait "
        "for its end, or name another `out`."
    )


def _release(path: Path, descriptor: int | None, owner: int) -> None:
    # Nor does a forked process, at its own end, end what its parent does.
    if descriptor is None or os.getpid() != owner:
        return
    # While it is held, or it might be another's. Windows removes no open file.
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            path.unlink()
    os.close(descriptor)
