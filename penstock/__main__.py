"""`penstock` and `python -m penstock`: Faust's command line with the app already named."""

import importlib.metadata
import sys


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        # Faust's own would say which Faust this is.
        print(f"penstock {importlib.metadata.version('penstock-agents')}")
        return
    from faust.cli.faust import cli

    # In place: Faust's group has this very list as the default of its look for -A.
    if not any(a == "-A" or a.startswith("--app") for a in sys.argv[1:]):
        sys.argv[1:1] = ["-A", "penstock"]
    cli(prog_name="penstock")


if __name__ == "__main__":
    main()
