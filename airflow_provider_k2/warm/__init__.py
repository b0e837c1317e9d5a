"""The warm tier: one table's rows, counts and proofs in ClickHouse, and what its TTL deletes."""
