"""Warnings that show the line of the caller's program that they are about."""

import os
import sys
import warnings

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def warn(text: str) -> None:
    """Warn at the line outside of this package that has called into it."""
    # Not by a number of frames: public functions are wrapped, some more than others.
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
