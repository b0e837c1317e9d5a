-- Stage 2: from text to exact types, with a reason for what does not fit. Nothing here may throw: a bad row must not
-- block its neighbours, so every conversion is an OrNull one.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.parsed_trades_mv TO k2.parsed_trades AS
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
    -- Microseconds since 1970, exact: milliseconds, seconds with a fraction, or RFC 3339 in UTC.
    multiIf(
        e.time_format = 'milliseconds',
            if(match(e.time, '^[0-9]{1,15}$'), toInt64OrNull(e.time) * 1000, NULL),
        e.time_format = 'seconds',
            if(match(e.time, '^[0-9]{1,11}([.][0-9]{1,6}0*)?$'),
                toInt64(toDecimal128OrNull(e.time, 6) * 1000000), NULL),
        if(match(e.time, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6}0*)?Z$'),
            toUnixTimestamp64Micro(parseDateTime64BestEffortOrNull(e.time, 6, 'UTC')), NULL)
    ) AS trade_micros,
    if(e.event_time = '', trade_micros,
        if(match(e.event_time, '^[0-9]{1,15}$'), toInt64OrNull(e.event_time) * 1000, NULL)) AS event_micros,
    -- Before the first bitcoin block, or more than a day ahead of the server's clock: no trade.
    toInt64(1230940800000000) AS earliest,
    toUnixTimestamp64Micro(e.arrived_at) + 86400000000 AS latest,
    if(match(e.trade_id, '^[0-9]{1,20}$'), toUInt64OrNull(e.trade_id), NULL) AS id_number,
    -- BASE/QUOTE: Kraken writes the slash, Binance does not, so the known quote assets split its symbols.
    if(position(e.symbol, '/') > 0, splitByChar('/', upper(e.symbol)),
        extractGroups(upper(e.symbol), '^(.+?)(FDUSD|USDT|USDC|USDP|USD1|TUSD|BUSD|USDS|AEUR|EURI|BIDR|IDRT|BVND|DAI|PAX|UST|VAI|BTC|ETH|BNB|XRP|TRX|SOL|DOT|DOGE|USD|EUR|GBP|TRY|BRL|AUD|RUB|UAH|ZAR|PLN|RON|NGN|ARS|JPY|MXN|COP|CZK|IDR)$')
    ) AS split_symbol,
    length(split_symbol) = 2 AND notEmpty(split_symbol[1]) AND notEmpty(split_symbol[2]) AS is_split,
    arrayMap(a -> transform(a, ['XBT', 'XDG'], ['BTC', 'DOGE'], a), split_symbol) AS assets
SELECT
    e.exchange AS exchange,
    e.message AS message,
    e.kafka_topic AS kafka_topic,
    e.kafka_partition AS kafka_partition,
    e.kafka_offset AS kafka_offset,
    e.arrived_at AS arrived_at,
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
    -- envelope it is sent. Without an id of its own, its position in the message tells it from its neighbours.
    lower(hex(MD5(arrayStringConcat(
        [e.exchange, e.symbol, e.trade_id, e.time, e.price, e.quantity, e.side,
            arrayStringConcat(e.conditions, ','), if(e.trade_id = '', toString(e.position), '')], '|')))) AS message_id,
    e.trade_id AS trade_id,
    e.symbol AS symbol,
    if(is_split, arrayStringConcat(assets, '/'), upper(e.symbol)) AS canonical_symbol,
    if(is_split, assets[2], '') AS currency,
    ifNull(exact_price, 0) AS price,
    ifNull(exact_quantity, 0) AS quantity,
    ifNull(exact_quote_volume, 0) AS quote_volume,
    if(e.side = 'SELL', 'SELL', 'BUY') AS side,
    e.conditions AS trade_conditions,
    fromUnixTimestamp64Micro(ifNull(trade_micros, 0), 'UTC') AS timestamp,
    fromUnixTimestamp64Micro(ifNull(event_micros, 0), 'UTC') AS event_time,
    if(e.trade_id = '', toUInt64(ifNull(trade_micros, 0)) * 1000 + e.position, ifNull(id_number, 0)) AS source_sequence,
    e.vendor_data AS vendor_data,
    if(is_split, [], ['canonical_symbol: the quote asset is not known']) AS validation_errors
FROM k2.extracted_trades AS e;
