"""`penstock` and `python -m penstock`."""

from penstock.commands.program import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
