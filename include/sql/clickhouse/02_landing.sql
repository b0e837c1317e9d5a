-- Raw messages as the exchange sent them, one row per Kafka record. In production a Kafka engine table and a materialised
-- view insert here; locally a feeder does. Kept for a day, so that a message can be looked at; the layers keep the rest. It holds
-- every delivery; what passes on holds every record once.
CREATE TABLE IF NOT EXISTS k2.raw_trades_binance
(
    message         String CODEC(ZSTD(1)),
    kafka_topic     LowCardinality(String) DEFAULT 'market.crypto.trades.binance.raw',
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta, ZSTD(1)),
    kafka_timestamp Int64 DEFAULT 0 CODEC(Delta, ZSTD(1)), -- milliseconds, as the broker keeps it; 0: not known
    arrived_at      DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(arrived_at, 'UTC')
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS k2.raw_trades_kraken
(
    message         String CODEC(ZSTD(1)),
    kafka_topic     LowCardinality(String) DEFAULT 'market.crypto.trades.kraken.raw',
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta, ZSTD(1)),
    kafka_timestamp Int64 DEFAULT 0 CODEC(Delta, ZSTD(1)), -- milliseconds, as the broker keeps it; 0: not known
    arrived_at      DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(arrived_at, 'UTC')
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(arrived_at, 'UTC') + INTERVAL 1 DAY
SETTINGS ttl_only_drop_parts = 1;
