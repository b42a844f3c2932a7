"""The commands: `penstock NAME`, and the same as `faust -A penstock NAME`.

What the command line knows of them is in `command_line`, each function in a module of its subject.
"""
