"""The version of asyncup: in `--version`, and in what servers read of who asks."""

__version__ = "0.1.0"
