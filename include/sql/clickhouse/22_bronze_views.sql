CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_binance_mv TO k2.bronze_trades_binance AS
SELECT
    timestamp AS exchange_timestamp,
    source_sequence AS sequence_number,
    symbol,
    price,
    quantity,
    quote_volume,
    event_time,
    kafka_offset,
    kafka_partition,
    arrived_at AS ingestion_timestamp
FROM k2.parsed_trades
WHERE reason = '' AND exchange = 'binance' AND empty(earlier);

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_kraken_mv TO k2.bronze_trades_kraken AS
SELECT
    timestamp AS exchange_timestamp,
    source_sequence AS sequence_number,
    symbol,
    price,
    quantity,
    quote_volume,
    event_time,
    kafka_offset,
    kafka_partition,
    arrived_at AS ingestion_timestamp
FROM k2.parsed_trades
WHERE reason = '' AND exchange = 'kraken' AND empty(earlier);

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.dead_letter_trades_mv TO k2.dead_letter_trades AS
SELECT exchange, reason, message, position, kafka_topic, kafka_partition, kafka_offset, arrived_at
FROM k2.parsed_trades
WHERE reason != '' AND empty(earlier);
