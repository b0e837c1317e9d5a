"""The ledger: leases, events, the agreement with the cold tier, and tools for people."""
