"""`python -m ctep` is `ctep`."""

from .cli import main

main()
