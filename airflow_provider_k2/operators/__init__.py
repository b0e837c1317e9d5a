"""Operators beside the transfer."""
