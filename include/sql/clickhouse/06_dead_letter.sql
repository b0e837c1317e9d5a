-- What could not become a trade, with the reason. One row per trade: the good trades of the same message go on.
CREATE TABLE IF NOT EXISTS k2.dead_letter_trades
(
    exchange        LowCardinality(String),
    reason          String,
    message         String CODEC(ZSTD(1)),
    position        UInt32,
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64,
    arrived_at      DateTime64(6, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toDate(arrived_at, 'UTC')
ORDER BY (arrived_at, exchange, kafka_partition, kafka_offset, position)
TTL toDateTime(arrived_at, 'UTC') + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;
