-- Silver: both exchanges in one form. Sorted and partitioned by arrival (the cursor), like bronze.
CREATE TABLE IF NOT EXISTS k2.silver_trades
(
    message_id          String CODEC(ZSTD(1)),
    trade_id            String CODEC(ZSTD(1)),
    exchange            LowCardinality(String),
    symbol              LowCardinality(String),
    canonical_symbol    LowCardinality(String),
    asset_class         LowCardinality(String),
    currency            LowCardinality(String),
    price               Decimal(18, 8) CODEC(ZSTD(1)),
    quantity            Decimal(18, 8) CODEC(ZSTD(1)),
    quote_volume        Decimal(18, 8) CODEC(ZSTD(1)),
    side                Enum8('BUY' = 1, 'SELL' = 2),
    trade_conditions    Array(String) CODEC(ZSTD(1)),
    timestamp           DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    ingestion_timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    processed_at        DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    source_sequence     UInt64 CODEC(Delta, ZSTD(1)),
    platform_sequence   UInt64 CODEC(Delta, ZSTD(1)),
    vendor_data         Map(String, String) CODEC(ZSTD(1)),
    is_valid            Bool,
    validation_errors   Array(String) CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(processed_at, 'UTC')
ORDER BY (processed_at, exchange, canonical_symbol, timestamp, source_sequence)
TTL toDateTime(processed_at, 'UTC') + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;
