"""`python -m ctep`, where the command `ctep` is not on the path."""

from .cli import main

if __name__ == "__main__":
    main()
