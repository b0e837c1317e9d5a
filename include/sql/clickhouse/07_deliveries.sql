-- Every delivery of a Kafka record: what tells a redelivered record from a new one, see docs/warm-tier.md.
-- All layers depend on it, so it is on disk before any of them. Sorted so that the deliveries of a block's offsets are a few
-- granules; small ones, because one is read for every Kafka partition and part, even if nothing is found.
CREATE TABLE IF NOT EXISTS k2.deliveries
(
    exchange        LowCardinality(String),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta, ZSTD(1)),
    record_id       UInt64 TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND, -- it only passes through
    fingerprint     UInt64,                                     -- of topic, partition, the broker's timestamp and the message
    inserted_at     DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)), -- when the insert began, the same for all of its blocks
    arrived_at      DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)), -- of the block: ingestion_timestamp in bronze and silver
    message         String CODEC(LZ4) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND -- it only passes through
)
ENGINE = MergeTree
PARTITION BY toMonday(arrived_at, 'UTC')
ORDER BY (kafka_topic, kafka_partition, intDiv(kafka_offset, 4096), kafka_offset)
TTL toDateTime(arrived_at, 'UTC') + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 512;

-- Where an earlier checkout has made it.
ALTER TABLE k2.deliveries
    ADD COLUMN IF NOT EXISTS record_id UInt64 TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND AFTER kafka_offset;

-- The stages of records that were delivered before, see 22_redelivery_views.sql.
-- Their trades; those of them whose earlier insert may have broken off.
CREATE TABLE IF NOT EXISTS k2.redelivered_trades AS k2.parsed_trades ENGINE = Null;
CREATE TABLE IF NOT EXISTS k2.unsettled_trades AS k2.parsed_trades ENGINE = Null;

-- The good ones among those. `delivered_at`: when before; `stored_at`: processed_at of what silver holds of the trade, or empty.
CREATE TABLE IF NOT EXISTS k2.unsettled_silver
(
    message_id        String,
    trade_id          String,
    exchange          LowCardinality(String),
    symbol            LowCardinality(String),
    canonical_symbol  LowCardinality(String),
    currency          LowCardinality(String),
    price             Decimal(18, 8),
    quantity          Decimal(18, 8),
    quote_volume      Decimal(18, 8),
    side              Enum8('BUY' = 1, 'SELL' = 2),
    trade_conditions  Array(String),
    timestamp         DateTime64(6, 'UTC'),
    arrived_at        DateTime64(6, 'UTC'),
    source_sequence   UInt64,
    kafka_offset      Int64,
    vendor_data       Map(String, String),
    validation_errors Array(String),
    delivered_at      Array(DateTime64(6, 'UTC')),
    stored_at         Array(DateTime64(6, 'UTC'))
)
ENGINE = Null;

-- Candles of one minute of those that silver holds. `marks` says what a candle's `updates` would hold if it had counted them.
CREATE TABLE IF NOT EXISTS k2.unsettled_minutes
(
    exchange         LowCardinality(String),
    canonical_symbol LowCardinality(String),
    window_start     DateTime64(6, 'UTC'),
    open_time        DateTime64(6, 'UTC'),
    open_price       AggregateFunction(argMin, Decimal(18, 8), UInt256),
    close_time       DateTime64(6, 'UTC'),
    close_price      AggregateFunction(argMax, Decimal(18, 8), UInt256),
    high_price       Decimal(18, 8),
    low_price        Decimal(18, 8),
    volume           Decimal(38, 8),
    quote_volume     Decimal(38, 8),
    trade_count      UInt64,
    last_update      DateTime64(6, 'UTC'),
    updates          Array(DateTime64(6, 'UTC')),
    marks            Array(DateTime64(6, 'UTC'))
)
ENGINE = Null;
