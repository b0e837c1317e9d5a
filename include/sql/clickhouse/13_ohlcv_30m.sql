-- Gold, 30m candles: aggregate states, and the view that finalises them. A state is right whatever the order, the number and
-- the merges of the inserts. The view groups again, so it is right before any merge,
-- and casts away the aggregate types, which clients do not know.
-- `open` and `close` order trades by (timestamp, source_sequence, platform_sequence, price): a total order.
-- TTL: a candle expires whole, a year after its last trade arrived. A merge joins states before it looks at their age, all
-- states of a candle are in one partition (the month of window_start), and parts older than a day are always merged there.
CREATE TABLE IF NOT EXISTS k2.ohlcv_30m_state
(
    exchange         LowCardinality(String),
    canonical_symbol LowCardinality(String),
    window_start     DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    open_time        SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    open_price       AggregateFunction(argMin, Decimal(18, 8), UInt256),
    close_time       SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    close_price      AggregateFunction(argMax, Decimal(18, 8), UInt256),
    high_price       SimpleAggregateFunction(max, Decimal(18, 8)),
    low_price        SimpleAggregateFunction(min, Decimal(18, 8)),
    volume           SimpleAggregateFunction(sum, Decimal(38, 8)),
    quote_volume     SimpleAggregateFunction(sum, Decimal(38, 8)),
    trade_count      SimpleAggregateFunction(sum, UInt64),
    last_update      SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    updates          SimpleAggregateFunction(groupUniqArrayArray, Array(DateTime64(6, 'UTC')))
        TTL toDateTime(last_update, 'UTC') + INTERVAL 7 DAY,
    INDEX last_update_minmax last_update TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(window_start, 'UTC')
ORDER BY (exchange, canonical_symbol, window_start)
TTL toDateTime(last_update, 'UTC') + INTERVAL 1 YEAR
SETTINGS ttl_only_drop_parts = 1, min_age_to_force_merge_seconds = 86400;

CREATE VIEW IF NOT EXISTS k2.ohlcv_30m AS
SELECT
    exchange,
    canonical_symbol,
    window_start,
    CAST(min(s.open_time) AS DateTime64(6, 'UTC')) AS open_time,
    argMinMerge(s.open_price) AS open_price,
    CAST(max(s.close_time) AS DateTime64(6, 'UTC')) AS close_time,
    argMaxMerge(s.close_price) AS close_price,
    CAST(max(s.high_price) AS Decimal(18, 8)) AS high_price,
    CAST(min(s.low_price) AS Decimal(18, 8)) AS low_price,
    sum(s.volume) AS volume,
    sum(s.quote_volume) AS quote_volume,
    sum(s.trade_count) AS trade_count,
    CAST(greatest(max(s.last_update), addSeconds(window_start, 1800)) AS DateTime64(6, 'UTC')) AS offload_cursor
FROM k2.ohlcv_30m_state AS s
GROUP BY exchange, canonical_symbol, window_start;

-- Every candle whose offload_cursor lies in a range has a row here with its cursor in that range (not the other way round).
-- A filter on the view above finalises a year of candles; `AND (exchange, canonical_symbol, window_start) IN (SELECT
-- exchange, canonical_symbol, window_start FROM k2.ohlcv_30m_changes WHERE <the same range>)` makes it a few granules.
CREATE VIEW IF NOT EXISTS k2.ohlcv_30m_changes AS
SELECT exchange, canonical_symbol, window_start, CAST(last_update AS DateTime64(6, 'UTC')) AS offload_cursor
FROM k2.ohlcv_30m_state
UNION ALL
SELECT exchange, canonical_symbol, window_start, addSeconds(window_start, 1800) AS offload_cursor
FROM k2.ohlcv_30m_state;
