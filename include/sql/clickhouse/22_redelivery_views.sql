-- A record that was delivered before is in every table already, unless its insert broke off between two of them: an insert that
-- fills many tables is one commit per table. So each table looks for itself, by the time of the earlier delivery, whether it has
-- the record's trades, and takes what it lacks. None of this runs for a record that is new: a view does nothing for an empty block.
-- The settings: a view runs with those of whoever inserts, and a look-up that a profile cuts short would let a trade in twice.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1m_unsettled_mv TO k2.ohlcv_1m_state AS
SELECT s.* EXCEPT marks
FROM k2.unsettled_minutes AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_1m_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT exchange, canonical_symbol, window_start FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, window_start)
WHERE NOT hasAny(s.marks, c.known)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_5m_unsettled_mv TO k2.ohlcv_5m_state AS
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
    FROM k2.unsettled_minutes
) AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start AS candle_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_5m_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT
            exchange,
            canonical_symbol,
            fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 300000000) * 300000000, 'UTC')
        FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, candle_start)
WHERE NOT hasAny(s.marks, c.known)
GROUP BY exchange, canonical_symbol, s.candle_start
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_15m_unsettled_mv TO k2.ohlcv_15m_state AS
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
    FROM k2.unsettled_minutes
) AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start AS candle_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_15m_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT
            exchange,
            canonical_symbol,
            fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 900000000) * 900000000, 'UTC')
        FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, candle_start)
WHERE NOT hasAny(s.marks, c.known)
GROUP BY exchange, canonical_symbol, s.candle_start
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_30m_unsettled_mv TO k2.ohlcv_30m_state AS
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
    FROM k2.unsettled_minutes
) AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start AS candle_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_30m_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT
            exchange,
            canonical_symbol,
            fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 1800000000) * 1800000000, 'UTC')
        FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, candle_start)
WHERE NOT hasAny(s.marks, c.known)
GROUP BY exchange, canonical_symbol, s.candle_start
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1h_unsettled_mv TO k2.ohlcv_1h_state AS
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
    FROM k2.unsettled_minutes
) AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start AS candle_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_1h_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT
            exchange,
            canonical_symbol,
            fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 3600000000) * 3600000000, 'UTC')
        FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, candle_start)
WHERE NOT hasAny(s.marks, c.known)
GROUP BY exchange, canonical_symbol, s.candle_start
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.ohlcv_1d_unsettled_mv TO k2.ohlcv_1d_state AS
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
    FROM k2.unsettled_minutes
) AS s
LEFT ANY JOIN
(
    SELECT exchange, canonical_symbol, window_start AS candle_start, groupUniqArrayArray(updates) AS known
    FROM k2.ohlcv_1d_state
    WHERE (exchange, canonical_symbol, window_start) IN (
        SELECT
            exchange,
            canonical_symbol,
            fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(window_start), 86400000000) * 86400000000, 'UTC')
        FROM k2.unsettled_minutes)
    GROUP BY exchange, canonical_symbol, window_start
) AS c USING (exchange, canonical_symbol, candle_start)
WHERE NOT hasAny(s.marks, c.known)
GROUP BY exchange, canonical_symbol, s.candle_start
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

-- Of the trades that silver holds: those that it lacks come with its own insert. A candle has counted a trade if it knows the block
-- that brought the trade to silver, or a later delivery of it, which did what this one does.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.unsettled_minutes_mv TO k2.unsettled_minutes AS
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
    nowInBlock64(6, 'UTC') AS last_update,
    [t.arrived_at] AS updates,
    t.marks AS marks
FROM
(
    SELECT
        *,
        arrayConcat(stored_at, arrayFilter(delivery -> delivery > arrayMax(stored_at), delivered_at)) AS marks,
        fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(timestamp), 60000000) * 60000000, 'UTC') AS candle_start,
        bitShiftLeft(toUInt256(toUnixTimestamp64Micro(timestamp)), 192)
            + bitShiftLeft(toUInt256(source_sequence), 128)
            + bitShiftLeft(toUInt256(toUInt64(kafka_offset)), 64)
            + reinterpretAsUInt64(price) AS trade_order
    FROM k2.unsettled_silver
    WHERE notEmpty(stored_at)
) AS t
GROUP BY exchange, canonical_symbol, t.candle_start, t.arrived_at, t.marks;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.silver_trades_unsettled_mv TO k2.silver_trades AS
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
FROM k2.unsettled_silver
WHERE empty(stored_at);

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.unsettled_silver_mv TO k2.unsettled_silver AS
SELECT
    t.* EXCEPT (message, kafka_topic, kafka_partition, inserted_at, earlier, position, reason, event_time, canonical_symbol),
    -- If a market became known in the meantime, the candles use what silver says.
    if(empty(stored_at), t.canonical_symbol, s.stored_symbol) AS canonical_symbol,
    t.earlier.arrived_at AS delivered_at,
    arrayMap(row -> row.2, arrayFilter(row -> has(t.earlier.arrived_at, row.1), s.held)) AS stored_at
FROM k2.unsettled_trades AS t
LEFT ANY JOIN
(
    SELECT
        exchange,
        toInt64(platform_sequence) AS kafka_offset,
        message_id,
        source_sequence,
        any(canonical_symbol) AS stored_symbol,
        groupUniqArray((ingestion_timestamp, processed_at)) AS held
    FROM k2.silver_trades
    WHERE ingestion_timestamp IN (SELECT arrayJoin(earlier.arrived_at) FROM k2.unsettled_trades)
        -- Sorted by processed_at, which is a moment later; an hour for clocks that are set back.
        AND processed_at >= (SELECT min(arrayMin(earlier.arrived_at)) FROM k2.unsettled_trades) - INTERVAL 1 HOUR
    GROUP BY exchange, platform_sequence, message_id, source_sequence
) AS s USING (exchange, kafka_offset, message_id, source_sequence)
WHERE t.reason = ''
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_binance_unsettled_mv TO k2.bronze_trades_binance AS
SELECT
    t.timestamp AS exchange_timestamp,
    t.source_sequence AS sequence_number,
    t.symbol AS symbol,
    t.price AS price,
    t.quantity AS quantity,
    t.quote_volume AS quote_volume,
    t.event_time AS event_time,
    t.kafka_offset AS kafka_offset,
    t.kafka_partition AS kafka_partition,
    t.arrived_at AS ingestion_timestamp
FROM k2.unsettled_trades AS t
LEFT ANY JOIN
(
    SELECT
        kafka_partition,
        kafka_offset,
        symbol,
        sequence_number AS source_sequence,
        groupUniqArray(ingestion_timestamp) AS held
    FROM k2.bronze_trades_binance
    WHERE ingestion_timestamp IN (SELECT arrayJoin(earlier.arrived_at) FROM k2.unsettled_trades)
    GROUP BY kafka_partition, kafka_offset, symbol, sequence_number
) AS b USING (kafka_partition, kafka_offset, symbol, source_sequence)
WHERE t.reason = '' AND t.exchange = 'binance' AND NOT hasAny(t.earlier.arrived_at, b.held)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_kraken_unsettled_mv TO k2.bronze_trades_kraken AS
SELECT
    t.timestamp AS exchange_timestamp,
    t.source_sequence AS sequence_number,
    t.symbol AS symbol,
    t.price AS price,
    t.quantity AS quantity,
    t.quote_volume AS quote_volume,
    t.event_time AS event_time,
    t.kafka_offset AS kafka_offset,
    t.kafka_partition AS kafka_partition,
    t.arrived_at AS ingestion_timestamp
FROM k2.unsettled_trades AS t
LEFT ANY JOIN
(
    SELECT
        kafka_partition,
        kafka_offset,
        symbol,
        sequence_number AS source_sequence,
        groupUniqArray(ingestion_timestamp) AS held
    FROM k2.bronze_trades_kraken
    WHERE ingestion_timestamp IN (SELECT arrayJoin(earlier.arrived_at) FROM k2.unsettled_trades)
    GROUP BY kafka_partition, kafka_offset, symbol, sequence_number
) AS b USING (kafka_partition, kafka_offset, symbol, source_sequence)
WHERE t.reason = '' AND t.exchange = 'kraken' AND NOT hasAny(t.earlier.arrived_at, b.held)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.dead_letter_trades_unsettled_mv TO k2.dead_letter_trades AS
SELECT t.exchange, t.reason, t.message, t.position, t.kafka_topic, t.kafka_partition, t.kafka_offset, t.arrived_at
FROM k2.unsettled_trades AS t
LEFT ANY JOIN
(
    SELECT kafka_topic, kafka_partition, kafka_offset, position, groupUniqArray(arrived_at) AS held
    FROM k2.dead_letter_trades
    WHERE arrived_at IN (SELECT arrayJoin(earlier.arrived_at) FROM k2.unsettled_trades)
    GROUP BY kafka_topic, kafka_partition, kafka_offset, position
) AS d USING (kafka_topic, kafka_partition, kafka_offset, position)
WHERE t.reason != '' AND NOT hasAny(t.earlier.arrived_at, d.held)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

-- Settled is an earlier delivery that is a day old and after which its Kafka partition has gone on to later offsets: nobody does
-- that after an insert that failed. So rows that are gone by then, by TTL or the deletion gate, do not come back.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.unsettled_trades_mv TO k2.unsettled_trades AS
SELECT t.*
FROM k2.redelivered_trades AS t
LEFT ANY JOIN
(
    SELECT kafka_topic, kafka_partition, max((kafka_offset, inserted_at)) AS furthest
    FROM k2.deliveries
    WHERE (kafka_topic, kafka_partition) IN (
            SELECT kafka_topic, kafka_partition
            FROM k2.redelivered_trades
            WHERE arrayMax(earlier.arrived_at) < arrived_at - INTERVAL 1 DAY)
        AND inserted_at NOT IN (SELECT DISTINCT inserted_at FROM k2.redelivered_trades)
    GROUP BY kafka_topic, kafka_partition
) AS f USING (kafka_topic, kafka_partition)
WHERE NOT (
    arrayMax(t.earlier.arrived_at) < t.arrived_at - INTERVAL 1 DAY
    AND f.furthest.1 > t.kafka_offset
    AND f.furthest.2 > arrayMax(t.earlier.inserted_at))
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.redelivered_trades_mv TO k2.redelivered_trades AS
SELECT * FROM k2.parsed_trades WHERE notEmpty(earlier);
