-- Stage 1, Kraken, in three forms:
--   v1   [channelID, [[price, volume, time, side, orderType, misc], ...], "trade", pair]
--   v2   {"channel": "trade", "type": .., "data": [{"symbol": .., "price": .., "trade_id": .., ...}, ...]}
--   flat {"channel_id": .., "pair": .., "price": .., "volume": .., "timestamp": "seconds.micros", ...}
-- Heartbeats, statuses and answers to subscriptions are neither trades nor faults, unless they report an error.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.extracted_trades_kraken_mv TO k2.extracted_trades AS
SELECT
    'kraken' AS exchange,
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
        form = '', 'not a trade message',
        trade = '', 'no trade in the message',
        ''
    ) AS problem,
    multiIf(form = 'v1', JSONExtractString(text, -1), form = 'v2', fields['symbol'], fields['pair']) AS symbol,
    if(form = 'v1', items[1], fields['price']) AS price,
    multiIf(form = 'v1', items[2], form = 'v2', fields['qty'], fields['volume']) AS quantity,
    if(form = 'v1', items[3], fields['timestamp']) AS time,
    if(form = 'v2', 'rfc3339', 'seconds') AS time_format,
    '' AS event_time,
    if(form = 'v2', fields['trade_id'], '') AS trade_id,
    form = 'v2' AS needs_trade_id,
    transform(if(form = 'v1', items[4], fields['side']), ['b', 'buy', 's', 'sell'], ['BUY', 'BUY', 'SELL', 'SELL'], '') AS side,
    arrayFilter(condition -> condition != '', [
        transform(multiIf(form = 'v1', items[5], form = 'v2', fields['ord_type'], fields['order_type']) AS order_type,
            ['l', 'm'], ['limit', 'market'], order_type),
        if(form = 'v1', items[6], fields['misc'])
    ]) AS conditions,
    multiIf(
        form = 'v1', map('channel_id', JSONExtractString(text, 1)),
        form = 'v2', mapUpdate(
            mapFilter(
                (name, value) -> name NOT IN ('symbol', 'side', 'price', 'qty', 'ord_type', 'trade_id', 'timestamp'), fields),
            map('type', JSONExtractString(text, 'type'))),
        mapFilter(
            (name, value) -> name NOT IN ('pair', 'price', 'volume', 'timestamp', 'side', 'order_type', 'misc'), fields)
    ) AS vendor_data
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
        text,
        form,
        trade,
        number,
        if(form = 'v1', JSONExtract(trade, 'Array(String)'), []) AS items,
        CAST(if(form = 'v1', [], JSONExtractKeysAndValues(trade, 'String')), 'Map(String, String)') AS fields
    FROM
    (
        SELECT
            *,
            multiIf(
                NOT is_json, '',
                JSONType(text) = 'Array' AND JSONExtractString(text, -2) = 'trade', 'v1',
                JSONExtractString(text, 'channel') = 'trade' AND JSONType(text, 'data') = 'Array', 'v2',
                JSONType(text) = 'Object' AND JSONHas(text, 'pair') AND JSONHas(text, 'price'), 'flat',
                ''
            ) AS form,
            multiIf(
                form = 'v1', JSONExtractArrayRaw(text, 2),
                form = 'v2', JSONExtractArrayRaw(text, 'data'),
                [text]
            ) AS found,
            if(empty(found), [''], found) AS trades
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
            WHERE exchange = 'kraken'
        )
        WHERE NOT (is_json AND JSONType(text) = 'Object' AND (
            (JSONExtractString(text, 'event') IN ('heartbeat', 'systemStatus', 'subscriptionStatus', 'pong')
                AND JSONExtractString(text, 'status') != 'error')
            OR JSONExtractString(text, 'channel') IN ('heartbeat', 'status')
            OR JSONExtractString(text, 'method') = 'pong'
            OR (JSONHas(text, 'method') AND JSONExtractBool(text, 'success'))))
    )
    ARRAY JOIN trades AS trade, arrayEnumerate(trades) AS number
);
