-- Coinbase, an exchange beside the two of the nine standard tables: all that the warm tier needs for it is in this file. What it has
-- of its own is the landing table, bronze, and the views that lead to and from the stages that all exchanges share.
CREATE TABLE IF NOT EXISTS k2.raw_trades_coinbase
(
    message         String CODEC(ZSTD(1)),
    kafka_topic     LowCardinality(String) DEFAULT 'market.crypto.trades.coinbase.raw',
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

CREATE TABLE IF NOT EXISTS k2.bronze_trades_coinbase
(
    exchange_timestamp  DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence_number     UInt64 CODEC(Delta, ZSTD(1)),
    symbol              LowCardinality(String),
    price               Decimal(18, 8) CODEC(ZSTD(1)),
    quantity            Decimal(18, 8) CODEC(ZSTD(1)),
    quote_volume        Decimal(18, 8) CODEC(ZSTD(1)),
    event_time          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    kafka_offset        Int64 CODEC(Delta, ZSTD(1)),
    kafka_partition     Int32,
    ingestion_timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ingestion_timestamp, 'UTC')
ORDER BY (ingestion_timestamp, symbol, exchange_timestamp, sequence_number)
TTL toDateTime(ingestion_timestamp, 'UTC') + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_coinbase_mv TO k2.bronze_trades_coinbase AS
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
WHERE reason = '' AND exchange = 'coinbase' AND empty(earlier);

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_coinbase_unsettled_mv TO k2.bronze_trades_coinbase AS
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
    FROM k2.bronze_trades_coinbase
    WHERE ingestion_timestamp IN (SELECT arrayJoin(earlier.arrived_at) FROM k2.unsettled_trades)
    GROUP BY kafka_partition, kafka_offset, symbol, sequence_number
) AS b USING (kafka_partition, kafka_offset, symbol, source_sequence)
WHERE t.reason = '' AND t.exchange = 'coinbase' AND NOT hasAny(t.earlier.arrived_at, b.held)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

-- Stage 1, a message of the channel `market_trades`:
--   {"channel": "market_trades", .., "events": [{"type": .., "trades": [{"product_id": .., "trade_id": .., ...}, ...]}, ...]}
-- Heartbeats and answers to subscriptions are neither trades nor faults.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.extracted_trades_coinbase_mv TO k2.extracted_trades AS
SELECT
    'coinbase' AS exchange,
    message,
    kafka_topic,
    kafka_partition,
    kafka_offset,
    record_id,
    inserted_at,
    arrived_at,
    earlier,
    number - 1 AS position,
    multiIf(
        NOT is_json, 'not JSON',
        NOT is_trades, 'not a trade message',
        trade.2 = '', 'no trade in the message',
        ''
    ) AS problem,
    fields['product_id'] AS symbol,
    fields['price'] AS price,
    fields['size'] AS quantity,
    fields['time'] AS time,
    'rfc3339' AS time_format,
    '' AS event_time,
    fields['trade_id'] AS trade_id,
    true AS needs_trade_id,
    -- The maker's side: the taker did the opposite.
    transform(fields['side'], ['BUY', 'SELL'], ['SELL', 'BUY'], '') AS side,
    CAST([], 'Array(String)') AS conditions,
    mapUpdate(
        mapFilter((name, value) -> name NOT IN ('product_id', 'price', 'size', 'time', 'trade_id', 'side'), fields),
        map('type', trade.1)) AS vendor_data
FROM
(
    SELECT
        message,
        kafka_topic,
        kafka_partition,
        kafka_offset,
        record_id,
        inserted_at,
        arrived_at,
        earlier,
        is_json,
        is_trades,
        trade,
        number,
        CAST(JSONExtractKeysAndValues(trade.2, 'String'), 'Map(String, String)') AS fields
    FROM
    (
        SELECT
            *,
            JSONExtractString(text, 'channel') = 'market_trades' AND JSONType(text, 'events') = 'Array' AS is_trades,
            -- Type of the event, and the trade.
            arrayFlatten(arrayMap(
                event -> arrayMap(found -> (JSONExtractString(event, 'type'), found), JSONExtractArrayRaw(event, 'trades')),
                if(is_trades, JSONExtractArrayRaw(text, 'events'), []))) AS found_trades,
            if(empty(found_trades), [('', '')], found_trades) AS trades
        FROM
        (
            SELECT
                message,
                kafka_topic,
                kafka_partition,
                kafka_offset,
                record_id,
                inserted_at,
                arrived_at,
                earlier,
                isValidJSON(message) AS is_json,
                -- A JSON number with a fraction would go through a float: put quotes around every number outside of strings first.
                -- (It gets '' if there is none: short-circuit evaluation of nested ifs costs more than it saves here.)
                is_json AND match(message, '[:\\[,]\\s*-?[0-9]+[.eE]') AS has_fractions,
                if(has_fractions,
                    arrayStringConcat(arrayMap(
                        piece -> if(startsWith(piece, '"'), piece, replaceRegexpAll(piece, '-?[0-9][0-9.eE+-]*', '"\\0"')),
                        extractAll(if(has_fractions, message, ''), '"(?:[^"\\\\]|\\\\.)*"|[^"]+'))),
                    message) AS text
            FROM k2.accepted_records
            WHERE exchange = 'coinbase'
        )
        WHERE NOT (is_json AND JSONExtractString(text, 'channel') IN ('heartbeats', 'subscriptions'))
    )
    ARRAY JOIN trades AS trade, arrayEnumerate(trades) AS number
);

-- A view on the landing table starts the flow: this one comes last.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.deliveries_coinbase_mv TO k2.deliveries AS
SELECT
    'coinbase' AS exchange,
    r.kafka_topic AS kafka_topic,
    r.kafka_partition AS kafka_partition,
    r.kafka_offset AS kafka_offset,
    if(r.kafka_timestamp = 0, 0, sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_offset, r.kafka_timestamp, r.message)) AS record_id,
    sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_timestamp, r.message) AS fingerprint,
    r.arrived_at AS inserted_at,
    nowInBlock64(6, 'UTC') AS arrived_at,
    r.message AS message
FROM k2.raw_trades_coinbase AS r;
