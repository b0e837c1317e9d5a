"""Hooks: the ledger, the warm tier and the cold tier."""
