-- Stage 1, Binance: a `trade` event, plain or in the combined-stream envelope {"stream": .., "data": {..}}.
-- Answers to subscriptions ({"result": null, "id": 1}) are neither trades nor faults: they stay in landing.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.extracted_trades_binance_mv TO k2.extracted_trades AS
WITH
    isValidJSON(r.message) AS is_json,
    -- A JSON number with a fraction would go through a float: put quotes around every number outside of strings first.
    -- (It gets '' if there is none: short-circuit evaluation of nested ifs costs more than it saves here.)
    is_json AND match(r.message, '[:\\[,]\\s*-?[0-9]+[.eE]') AS has_fractions,
    if(has_fractions,
        arrayStringConcat(arrayMap(
            piece -> if(startsWith(piece, '"'), piece, replaceRegexpAll(piece, '-?[0-9][0-9.eE+-]*', '"\\0"')),
            extractAll(if(has_fractions, r.message, ''), '"(?:[^"\\\\]|\\\\.)*"|[^"]+'))),
        r.message) AS text,
    JSONType(text, 'data') = 'Object' AS is_envelope,
    if(is_envelope, JSONExtractRaw(if(is_envelope, text, ''), 'data'), text) AS event,
    CAST(JSONExtractKeysAndValues(event, 'String'), 'Map(String, String)') AS fields
SELECT
    'binance' AS exchange,
    r.message AS message,
    r.kafka_topic AS kafka_topic,
    r.kafka_partition AS kafka_partition,
    r.kafka_offset AS kafka_offset,
    r.record_id AS record_id,
    r.inserted_at AS inserted_at,
    r.arrived_at AS arrived_at,
    r.earlier AS earlier,
    0 AS position,
    multiIf(
        NOT is_json, 'not JSON',
        fields['e'] != 'trade', concat('not a trade event: ', substring(fields['e'], 1, 64)),
        fields['E'] = '', 'event time is missing',
        ''
    ) AS problem,
    fields['s'] AS symbol,
    fields['p'] AS price,
    fields['q'] AS quantity,
    fields['T'] AS time,
    'milliseconds' AS time_format,
    fields['E'] AS event_time,
    fields['t'] AS trade_id,
    true AS needs_trade_id,
    -- m: the buyer was the maker, so the taker sold.
    multiIf(fields['m'] = 'true', 'SELL', fields['m'] = 'false', 'BUY', '') AS side,
    CAST([], 'Array(String)') AS conditions,
    mapUpdate(
        mapFilter((name, value) -> name NOT IN ('e', 's', 't', 'p', 'q', 'T', 'm'), fields),
        if(NOT is_envelope, map(), map('stream', JSONExtractString(text, 'stream')))) AS vendor_data
FROM k2.accepted_records AS r
WHERE r.exchange = 'binance' AND NOT (is_json AND JSONHas(r.message, 'result') AND JSONHas(r.message, 'id'));
