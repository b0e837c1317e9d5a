"""The command line, ``k2``."""
