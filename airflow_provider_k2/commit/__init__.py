"""The commit protocol.

What a commit carries, how the cold tier's state is read back, how a window becomes one commit.
"""
