-- Stage 3: from typed trades to each trade once, see 09_trade_claims.sql.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.claimed_trades_parsed_mv TO k2.parsed_trades AS
SELECT
    t.* EXCEPT (record_id, millisecond),
    '' AS message, -- dead letters only have one
    '' AS reason
FROM k2.claimed_trades AS t
LEFT ANY JOIN
(
    -- Of all claims of a trade the first, those of this block included.
    SELECT exchange, symbol, source_sequence, millisecond, min((arrived_at, kafka_offset, position, record_id)) AS first
    FROM
    (
        SELECT exchange, symbol, source_sequence, millisecond, arrived_at, kafka_offset, position, record_id
        FROM k2.trade_claims
        WHERE (exchange, symbol, intDiv(source_sequence, 4096)) IN (
            SELECT DISTINCT exchange, symbol, intDiv(source_sequence, 4096) FROM k2.claimed_trades)
        UNION ALL
        SELECT exchange, symbol, source_sequence, millisecond, arrived_at, kafka_offset, position, record_id
        FROM k2.claimed_trades
    )
    GROUP BY exchange, symbol, source_sequence, millisecond
) AS c USING (exchange, symbol, source_sequence, millisecond)
WHERE c.first.4 = t.record_id AND c.first.3 = t.position
-- A view runs with the settings of whoever inserts; a look-up that a profile cuts short would let a trade in twice.
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.claimed_trades_mv TO k2.claimed_trades AS
SELECT * FROM k2.trade_claims;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.trade_claims_mv TO k2.trade_claims AS
SELECT * EXCEPT (message, reason), intDiv(toUnixTimestamp64Micro(timestamp), 1000) AS millisecond
FROM k2.typed_trades
WHERE reason = '' AND trade_id != '' AND record_id != 0;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.typed_trades_parsed_mv TO k2.parsed_trades AS
SELECT * EXCEPT record_id
FROM k2.typed_trades
WHERE reason != '' OR trade_id = '' OR record_id = 0;
