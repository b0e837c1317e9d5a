-- The views that move rows on, last stage first: nothing passes a view whose target is not there yet.

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_5m_mv TO k2.ohlcv_5m_state AS
SELECT
    exchange,
    canonical_symbol,
    s.candle_start AS window_start,
    min(s.open_time) AS open_time,
    argMinMergeState(s.open_price) AS open_price,
    max(s.close_time) AS close_time,
    argMaxMergeState(s.close_price) AS close_price,
    max(s.high_price) AS high_price,
    min(s.low_price) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    max(s.last_update) AS last_update,
    groupUniqArrayArray(s.updates) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 300000000) * 300000000, 'UTC') AS candle_start
    FROM k2.trade_minutes
) AS s
GROUP BY exchange, canonical_symbol, s.candle_start;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_15m_mv TO k2.ohlcv_15m_state AS
SELECT
    exchange,
    canonical_symbol,
    s.candle_start AS window_start,
    min(s.open_time) AS open_time,
    argMinMergeState(s.open_price) AS open_price,
    max(s.close_time) AS close_time,
    argMaxMergeState(s.close_price) AS close_price,
    max(s.high_price) AS high_price,
    min(s.low_price) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    max(s.last_update) AS last_update,
    groupUniqArrayArray(s.updates) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 900000000) * 900000000, 'UTC') AS candle_start
    FROM k2.trade_minutes
) AS s
GROUP BY exchange, canonical_symbol, s.candle_start;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_30m_mv TO k2.ohlcv_30m_state AS
SELECT
    exchange,
    canonical_symbol,
    s.candle_start AS window_start,
    min(s.open_time) AS open_time,
    argMinMergeState(s.open_price) AS open_price,
    max(s.close_time) AS close_time,
    argMaxMergeState(s.close_price) AS close_price,
    max(s.high_price) AS high_price,
    min(s.low_price) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    max(s.last_update) AS last_update,
    groupUniqArrayArray(s.updates) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 1800000000) * 1800000000, 'UTC') AS candle_start
    FROM k2.trade_minutes
) AS s
GROUP BY exchange, canonical_symbol, s.candle_start;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1h_mv TO k2.ohlcv_1h_state AS
SELECT
    exchange,
    canonical_symbol,
    s.candle_start AS window_start,
    min(s.open_time) AS open_time,
    argMinMergeState(s.open_price) AS open_price,
    max(s.close_time) AS close_time,
    argMaxMergeState(s.close_price) AS close_price,
    max(s.high_price) AS high_price,
    min(s.low_price) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    max(s.last_update) AS last_update,
    groupUniqArrayArray(s.updates) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 3600000000) * 3600000000, 'UTC') AS candle_start
    FROM k2.trade_minutes
) AS s
GROUP BY exchange, canonical_symbol, s.candle_start;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1d_mv TO k2.ohlcv_1d_state AS
SELECT
    exchange,
    canonical_symbol,
    s.candle_start AS window_start,
    min(s.open_time) AS open_time,
    argMinMergeState(s.open_price) AS open_price,
    max(s.close_time) AS close_time,
    argMaxMergeState(s.close_price) AS close_price,
    max(s.high_price) AS high_price,
    min(s.low_price) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    max(s.last_update) AS last_update,
    groupUniqArrayArray(s.updates) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 86400000000) * 86400000000, 'UTC') AS candle_start
    FROM k2.trade_minutes
) AS s
GROUP BY exchange, canonical_symbol, s.candle_start;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1m_mv TO k2.ohlcv_1m_state AS
SELECT * FROM k2.trade_minutes;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.trade_minutes_mv TO k2.trade_minutes AS
SELECT
    exchange,
    canonical_symbol,
    t.candle_start AS window_start,
    min(t.timestamp) AS open_time,
    argMinState(t.price, t.trade_order) AS open_price,
    max(t.timestamp) AS close_time,
    argMaxState(t.price, t.trade_order) AS close_price,
    max(t.price) AS high_price,
    min(t.price) AS low_price,
    sum(t.quantity) AS volume,
    sum(t.quote_volume) AS quote_volume,
    count() AS trade_count,
    max(t.processed_at) AS last_update,
    groupUniqArray(t.processed_at) AS updates
FROM
(
    SELECT
        *,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(timestamp), 60000000) * 60000000, 'UTC') AS candle_start,
        -- (timestamp, source_sequence, platform_sequence, price), 64 bits each: compares like the tuple, far faster.
        bitShiftLeft(toUInt256(toUnixTimestamp64Micro(timestamp)), 192)
            + bitShiftLeft(toUInt256(source_sequence), 128)
            + bitShiftLeft(toUInt256(platform_sequence), 64)
            + reinterpretAsUInt64(price) AS trade_order
    FROM k2.silver_trades
) AS t
GROUP BY exchange, canonical_symbol, t.candle_start;
