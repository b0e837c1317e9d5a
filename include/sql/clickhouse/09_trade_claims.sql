-- Every trade once, whoever sends it again: an exchange that doubles a message, a second feed handler, a gap that is filled while
-- the trade was on its way. A trade that the exchange has given an id is known by exchange, symbol, id and the millisecond of its
-- time (so ids that begin anew are other trades), and belongs to the record that brought it first; in other records it is a copy,
-- and left out. A record that is delivered again keeps its trades, so what a broken insert has left out is completed by it alone.
-- Trades without an id (Kraken v1) and files that `k2 replay` sends straight to the landing tables are not looked at.
-- On disk before any of the layers, like k2.deliveries; the columns with a TTL of a second only pass through.
CREATE TABLE IF NOT EXISTS k2.trade_claims
(
    exchange          LowCardinality(String),
    symbol            LowCardinality(String),
    source_sequence   UInt64 CODEC(Delta, ZSTD(1)), -- the exchange's id
    millisecond       Int64 CODEC(Delta, ZSTD(1)),  -- of the trade's time, since 1970
    arrived_at        DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    kafka_offset      Int64 CODEC(Delta, ZSTD(1)),
    record_id         UInt64,
    position          UInt32 CODEC(T64, LZ4),
    kafka_topic       LowCardinality(String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    kafka_partition   Int32 TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    inserted_at       DateTime64(6, 'UTC') TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    earlier           Array(Tuple(inserted_at DateTime64(6, 'UTC'), arrived_at DateTime64(6, 'UTC')))
        TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    message_id        String TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    trade_id          String TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    canonical_symbol  LowCardinality(String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    currency          LowCardinality(String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    price             Decimal(18, 8) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    quantity          Decimal(18, 8) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    quote_volume      Decimal(18, 8) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    side              Enum8('BUY' = 1, 'SELL' = 2) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    trade_conditions  Array(String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    timestamp         DateTime64(6, 'UTC') TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    event_time        DateTime64(6, 'UTC') TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    vendor_data       Map(String, String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND,
    validation_errors Array(String) TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 SECOND
)
ENGINE = MergeTree
PARTITION BY toMonday(arrived_at, 'UTC')
ORDER BY (exchange, symbol, intDiv(source_sequence, 4096), source_sequence)
TTL toDateTime(arrived_at, 'UTC') + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 512;

-- The block that was just claimed: between, so that k2.trade_claims means the stored table.
CREATE TABLE IF NOT EXISTS k2.claimed_trades AS k2.trade_claims ENGINE = Null;
