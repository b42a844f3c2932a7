"""The commands: `penstock NAME`, and the same as `faust -A app NAME`.

What the command line knows of them is in `command_line`, each function in a module of its subject.
"""
