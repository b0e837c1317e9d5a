CREATE MATERIALIZED VIEW IF NOT EXISTS k2.silver_trades_mv TO k2.silver_trades AS
SELECT
    message_id,
    trade_id,
    exchange,
    symbol,
    canonical_symbol,
    'crypto' AS asset_class,
    currency,
    price,
    quantity,
    quote_volume,
    side,
    trade_conditions,
    timestamp,
    arrived_at AS ingestion_timestamp,
    nowInBlock64(6, 'UTC') AS processed_at,
    source_sequence,
    toUInt64(kafka_offset) AS platform_sequence,
    vendor_data,
    empty(validation_errors) AS is_valid,
    validation_errors
FROM k2.parsed_trades
WHERE reason = '' AND empty(earlier);
