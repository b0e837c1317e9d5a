-- Bronze: the trades as facts. Sorted and partitioned by arrival (the cursor), so that a window reads only its own parts
-- and granules, and TTL on arrival drops whole parts.
CREATE TABLE IF NOT EXISTS k2.bronze_trades_binance
(
    exchange_timestamp  DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence_number     UInt64 CODEC(Delta, ZSTD(1)),
    symbol              LowCardinality(String),
    price               Decimal(18, 8) CODEC(ZSTD(1)),
    quantity            Decimal(18, 8) CODEC(ZSTD(1)),
    quote_volume        Decimal(18, 8) CODEC(ZSTD(1)),
    event_time          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    kafka_offset        Int64 CODEC(Delta, ZSTD(1)),
    kafka_partition     Int32,
    ingestion_timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ingestion_timestamp, 'UTC')
ORDER BY (ingestion_timestamp, symbol, exchange_timestamp, sequence_number)
TTL toDateTime(ingestion_timestamp, 'UTC') + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS k2.bronze_trades_kraken
(
    exchange_timestamp  DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence_number     UInt64 CODEC(Delta, ZSTD(1)),
    symbol              LowCardinality(String),
    price               Decimal(18, 8) CODEC(ZSTD(1)),
    quantity            Decimal(18, 8) CODEC(ZSTD(1)),
    quote_volume        Decimal(18, 8) CODEC(ZSTD(1)),
    event_time          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    kafka_offset        Int64 CODEC(Delta, ZSTD(1)),
    kafka_partition     Int32,
    ingestion_timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ingestion_timestamp, 'UTC')
ORDER BY (ingestion_timestamp, symbol, exchange_timestamp, sequence_number)
TTL toDateTime(ingestion_timestamp, 'UTC') + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

