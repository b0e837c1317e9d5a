-- The gap ledger: trades that an exchange has numbered and bronze does not hold. Found by `k2_gaps`, see docs/live.md. A range of
-- ids is in one row: when a part of it comes, the row is split. The row with the highest `version` counts. It is in the warm tier,
-- because it is about what the warm tier holds, and candles are marked by it.
CREATE TABLE IF NOT EXISTS k2.gaps
(
    exchange         LowCardinality(String),
    symbol           String,
    first_id         UInt64,                  -- of the missing trades
    last_id          UInt64,                  -- inclusive
    canonical_symbol String,
    after_time       DateTime64(6, 'UTC'),    -- of the last trade before them
    before_time      DateTime64(6, 'UTC'),    -- of the first trade after them
    state            Enum8('open' = 1, 'filled' = 2, 'void' = 3), -- void: the exchange says that there are no trades with these ids
    found_at         DateTime64(6, 'UTC'),
    tried_at         DateTime64(6, 'UTC'),    -- 1970: not yet
    tries            UInt32,
    note             String,                  -- of the last try
    version          UInt64                   -- microseconds since 1970
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(found_at, 'UTC')
ORDER BY (exchange, symbol, found_at, first_id)
TTL toDateTime(found_at, 'UTC') + INTERVAL 1 YEAR
SETTINGS ttl_only_drop_parts = 1, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE VIEW IF NOT EXISTS k2.gaps_open AS
SELECT
    exchange,
    symbol,
    canonical_symbol,
    first_id,
    last_id,
    last_id - first_id + 1 AS missing,
    after_time,
    before_time,
    found_at,
    tries,
    note
FROM k2.gaps FINAL
WHERE state = 'open';

-- Candles with the number of trades that they may lack: those of open gaps from whose time some may be theirs. A candle that has
-- lost all its trades has no row; its gap is in k2.gaps_open.

CREATE VIEW IF NOT EXISTS k2.ohlcv_1m_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_1m AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 60000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 60000000), intDiv(toUnixTimestamp64Micro(before_time), 60000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS k2.ohlcv_5m_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_5m AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 300000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 300000000), intDiv(toUnixTimestamp64Micro(before_time), 300000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS k2.ohlcv_15m_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_15m AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 900000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 900000000), intDiv(toUnixTimestamp64Micro(before_time), 900000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS k2.ohlcv_30m_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_30m AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 1800000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 1800000000), intDiv(toUnixTimestamp64Micro(before_time), 1800000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS k2.ohlcv_1h_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_1h AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 3600000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 3600000000), intDiv(toUnixTimestamp64Micro(before_time), 3600000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS k2.ohlcv_1d_marked AS
SELECT c.* EXCEPT offload_cursor, g.missing AS missing_trades, g.missing = 0 AS is_complete
FROM k2.ohlcv_1d AS c
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, fromUnixTimestamp64Micro(number * 86400000000, 'UTC') AS window_start, sum(missing) AS missing
    FROM
    (
        SELECT
            toLowCardinality(exchange) AS exchange,
            toLowCardinality(canonical_symbol) AS canonical_symbol,
            missing,
            arrayJoin(range(
                intDiv(toUnixTimestamp64Micro(after_time), 86400000000), intDiv(toUnixTimestamp64Micro(before_time), 86400000000) + 1)) AS number
        FROM k2.gaps_open
    )
    GROUP BY exchange, canonical_symbol, number
) AS g USING (exchange, canonical_symbol, window_start)
SETTINGS join_use_nulls = 0;
