"""One name over both tiers: a ClickHouse view per table that reads each row from one of them."""
