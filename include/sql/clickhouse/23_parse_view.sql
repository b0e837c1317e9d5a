-- Stage 2: from text to exact types, with a reason for what does not fit. Nothing here may throw: a bad row must not
-- block its neighbours, so every conversion is an OrNull one.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.typed_trades_mv TO k2.typed_trades AS
WITH
    '^-?[0-9]{1,20}([.][0-9]{1,20})?([eE][+-]?[0-9]{1,2})?$' AS number_form,
    -- Most numbers take the short way. The long way reads exponents and long fractions in 76 digits and refuses what
    -- Decimal(18, 8) cannot hold exactly. ClickHouse itself refuses only what its 64 bits cannot hold: 19 digits would
    -- pass, and break every reader that trusts the type.
    '^[0-9]{1,10}([.][0-9]{1,8}0*)?$' AS short_form,
    if(match(e.price, short_form), toDecimal64OrNull(e.price, 8),
        if(match(e.price, number_form)
                AND toDecimal256OrNull(e.price, 50) < 10000000000
                AND toDecimal256(ifNull(accurateCastOrNull(toDecimal256OrNull(e.price, 50), 'Decimal(18, 8)'), 0), 50)
                    = toDecimal256OrNull(e.price, 50),
            accurateCastOrNull(toDecimal256OrNull(e.price, 50), 'Decimal(18, 8)'), NULL)) AS exact_price,
    if(match(e.quantity, short_form), toDecimal64OrNull(e.quantity, 8),
        if(match(e.quantity, number_form)
                AND toDecimal256OrNull(e.quantity, 50) < 10000000000
                AND toDecimal256(ifNull(accurateCastOrNull(toDecimal256OrNull(e.quantity, 50), 'Decimal(18, 8)'), 0), 50)
                    = toDecimal256OrNull(e.quantity, 50),
            accurateCastOrNull(toDecimal256OrNull(e.quantity, 50), 'Decimal(18, 8)'), NULL)) AS exact_quantity,
    -- The product of 16 decimal digits, rounded half up to 8.
    round(toDecimal128(ifNull(exact_price, 0), 8) * toDecimal128(ifNull(exact_quantity, 0), 8), 8) AS product,
    if(product < 10000000000, accurateCastOrNull(product, 'Decimal(18, 8)'), NULL) AS exact_quote_volume,
    -- Microseconds since 1970, exact: milliseconds or microseconds (13 and 16 digits from 2001 to 2286, so the length tells
    -- which), seconds with a fraction, or RFC 3339 in UTC.
    multiIf(
        e.time_format = 'milliseconds',
            multiIf(match(e.time, '^[0-9]{1,15}$'), toInt64OrNull(e.time) * 1000,
                match(e.time, '^[0-9]{16}$'), toInt64OrNull(e.time), NULL),
        e.time_format = 'seconds',
            if(match(e.time, '^[0-9]{1,11}([.][0-9]{1,6}0*)?$'),
                toInt64(toDecimal128OrNull(e.time, 6) * 1000000), NULL),
        if(match(e.time, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6}0*)?Z$'),
            toUnixTimestamp64Micro(parseDateTime64BestEffortOrNull(e.time, 6, 'UTC')), NULL)
    ) AS trade_micros,
    if(e.event_time = '', trade_micros,
        multiIf(match(e.event_time, '^[0-9]{1,15}$'), toInt64OrNull(e.event_time) * 1000,
            match(e.event_time, '^[0-9]{16}$'), toInt64OrNull(e.event_time), NULL)) AS event_micros,
    -- Before the first bitcoin block, or more than a day ahead of the server's clock: no trade.
    toInt64(1230940800000000) AS earliest,
    toUnixTimestamp64Micro(e.arrived_at) + 86400000000 AS latest,
    if(match(e.trade_id, '^[0-9]{1,20}$'), toUInt64OrNull(e.trade_id), NULL) AS id_number
SELECT
    e.exchange AS exchange,
    e.message AS message,
    e.kafka_topic AS kafka_topic,
    e.kafka_partition AS kafka_partition,
    e.kafka_offset AS kafka_offset,
    e.record_id AS record_id,
    e.inserted_at AS inserted_at,
    e.arrived_at AS arrived_at,
    e.earlier AS earlier,
    e.position AS position,
    multiIf(
        e.problem != '', e.problem,
        e.symbol = '', 'symbol is missing',
        length(e.symbol) > 64, 'symbol is longer than 64 bytes',
        e.price = '', 'price is missing',
        NOT match(e.price, number_form), concat('price is not a number: ', substring(e.price, 1, 64)),
        startsWith(e.price, '-') OR exact_price = 0, concat('price is not positive: ', e.price),
        exact_price IS NULL, concat('price does not fit Decimal(18, 8): ', e.price),
        e.quantity = '', 'quantity is missing',
        NOT match(e.quantity, number_form), concat('quantity is not a number: ', substring(e.quantity, 1, 64)),
        startsWith(e.quantity, '-') OR exact_quantity = 0, concat('quantity is not positive: ', e.quantity),
        exact_quantity IS NULL, concat('quantity does not fit Decimal(18, 8): ', e.quantity),
        exact_quote_volume IS NULL, concat('quote_volume does not fit Decimal(18, 8): ', e.price, ' * ', e.quantity),
        e.time = '', 'timestamp is missing',
        trade_micros IS NULL, concat('timestamp is not a time in ', e.time_format, ': ', substring(e.time, 1, 64)),
        trade_micros < earliest OR trade_micros > latest, concat('timestamp is out of range: ', e.time),
        event_micros IS NULL, concat('event time is not a time in milliseconds: ', substring(e.event_time, 1, 64)),
        event_micros < earliest OR event_micros > latest, concat('event time is out of range: ', e.event_time),
        e.trade_id = '' AND e.needs_trade_id, 'trade id is missing',
        e.trade_id != '' AND id_number IS NULL, concat('trade id is not a 64-bit number: ', substring(e.trade_id, 1, 64)),
        e.position > 999, 'more than 1000 trades in one message',
        e.side = '', 'side is missing or unknown',
        ''
    ) AS reason,
    -- From the values as the exchange wrote them, so that the same trade has the same id however often and in whatever
    -- envelope it is sent. Without an id of its own, its position in the message distinguishes it from its neighbours.
    lower(hex(MD5(arrayStringConcat(
        [e.exchange, e.symbol, e.trade_id, e.time, e.price, e.quantity, e.side,
            arrayStringConcat(e.conditions, ','), if(e.trade_id = '', toString(e.position), '')], '|')))) AS message_id,
    e.trade_id AS trade_id,
    e.symbol AS symbol,
    s.canonical_symbol AS canonical_symbol,
    s.currency AS currency,
    ifNull(exact_price, 0) AS price,
    ifNull(exact_quantity, 0) AS quantity,
    ifNull(exact_quote_volume, 0) AS quote_volume,
    if(e.side = 'SELL', 'SELL', 'BUY') AS side,
    e.conditions AS trade_conditions,
    fromUnixTimestamp64Micro(ifNull(trade_micros, 0), 'UTC') AS timestamp,
    fromUnixTimestamp64Micro(ifNull(event_micros, 0), 'UTC') AS event_time,
    if(e.trade_id = '', toUInt64(ifNull(trade_micros, 0)) * 1000 + e.position, ifNull(id_number, 0)) AS source_sequence,
    e.vendor_data AS vendor_data,
    s.validation_errors AS validation_errors
FROM k2.extracted_trades AS e
LEFT ANY JOIN
(
    -- BASE/QUOTE, worked out once for every symbol of the block. Kraken writes the slash, others a dash. Binance neither: a symbol
    -- is split only where the known markets and assets leave one way to do it.
    WITH '[^\\x00-/:-@\\[-`{-\\x7f]+' AS name_form -- letters and digits of any alphabet
    SELECT
        exchange,
        symbol,
        multiIf(
            market IS NOT NULL, ifNull(market, ''),
            position(text, '/') > 0, if(match(text, concat('^', name_form, '([.][A-Z])?/', name_form, '$')), text, ''),
            length(choices) = 1 AND choices[1].2 != 'quote' AND match(text, concat('^', name_form, '$')), choices[1].1,
            '') AS pair,
        arrayMap(asset -> ifNull(joinGetOrNull('k2.known_assets', 'name', asset), asset), splitByChar('/', pair)) AS names,
        if(pair = '', text, arrayStringConcat(names, '/')) AS canonical_symbol,
        names[2] AS currency,
        if(pair != '', [], [concat('canonical_symbol: ', symbol, multiIf(
            market IS NOT NULL, ' is no market, as k2.known_markets says',
            position(text, '/') > 0, ' is not of the form BASE/QUOTE',
            empty(choices), ' ends with no known quote asset; add it to k2.known_markets',
            concat(' may be ', arrayStringConcat(arraySort(choices.1), ', '), ' or another market; add it to k2.known_markets')
        ))]) AS validation_errors
    FROM
    (
        -- Of the ways to split it, those with a known base, if there are any.
        SELECT *, arrayFilter(way -> way.2 = 'known' OR NOT has(ways.2, 'known'), ways) AS choices
        FROM
        (
            SELECT
                exchange,
                symbol,
                if(exchange = 'binance', upper(symbol), replaceOne(upper(symbol), '-', '/')) AS text,
                joinGetOrNull('k2.known_markets', 'market', toString(exchange), text) AS market,
                arrayFilter(way -> way.2 != '', arrayMap(
                    size -> (
                        concat(substring(text, 1, length(text) - size) AS base, '/', substring(text, length(text) - size + 1) AS quote),
                        multiIf(
                            ifNull(joinGetOrNull('k2.known_assets', 'role', quote), 'base') AS role = 'base', '',
                            joinGetOrNull('k2.known_assets', 'role', base) IS NOT NULL, 'known',
                            toString(role))),
                    range(1, least(length(text), 17)))) AS ways
            FROM (SELECT DISTINCT exchange, symbol FROM k2.extracted_trades)
        )
    )
) AS s USING (exchange, symbol)
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';
