-- For monitoring: where each partition of the topics is, what did not become a trade, what came more than once. The last day only.
CREATE VIEW IF NOT EXISTS k2.feed_offsets AS
SELECT
    kafka_topic,
    kafka_partition,
    max(kafka_offset) AS last_offset,
    max(arrived_at) AS last_arrival,
    fromUnixTimestamp64Milli(max(kafka_timestamp), 'UTC') AS last_broker_time, -- 1970: sent by `k2 replay`, without a broker
    countIf(arrived_at > now64(6, 'UTC') - INTERVAL 1 MINUTE) AS deliveries_in_last_minute,
    -- From the broker to the landing table; deliveries of the last minute.
    maxIf(toUnixTimestamp64Milli(CAST(arrived_at AS DateTime64(3, 'UTC'))) - kafka_timestamp,
        kafka_timestamp != 0 AND arrived_at > now64(6, 'UTC') - INTERVAL 1 MINUTE) AS longest_delay_ms
FROM merge('k2', '^raw_trades_')
WHERE arrived_at > now64(6, 'UTC') - INTERVAL 1 DAY
GROUP BY kafka_topic, kafka_partition;

CREATE VIEW IF NOT EXISTS k2.feed_dead_letters AS
SELECT
    exchange,
    kafka_topic,
    kafka_partition,
    splitByString(': ', reason)[1] AS kind,
    count() AS letters,
    countIf(arrived_at > now64(6, 'UTC') - INTERVAL 1 HOUR) AS letters_in_last_hour,
    max(arrived_at) AS last_arrival,
    argMax(message, arrived_at) AS last_message
FROM k2.dead_letter_trades
WHERE arrived_at > now64(6, 'UTC') - INTERVAL 1 DAY
GROUP BY exchange, kafka_topic, kafka_partition, kind;

-- Trades that other records brought again (they count once), by exchange.
CREATE VIEW IF NOT EXISTS k2.feed_copies AS
SELECT exchange, sum(claims) - count() AS copies, countIf(claims > 1) AS trades
FROM
(
    SELECT exchange, symbol, source_sequence, millisecond, uniqExact(record_id, position) AS claims
    FROM k2.trade_claims
    WHERE arrived_at > now64(6, 'UTC') - INTERVAL 1 DAY
    GROUP BY exchange, symbol, source_sequence, millisecond
)
GROUP BY exchange;
