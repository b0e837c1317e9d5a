-- Stage 0: from deliveries to records, each once. A view sees the block that is inserted, also in its subqueries where they name
-- its source; `incoming_records` stands between, so that k2.deliveries below means the stored table.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.accepted_records_mv TO k2.accepted_records AS
SELECT
    r.exchange AS exchange,
    r.message AS message,
    r.kafka_topic AS kafka_topic,
    r.kafka_partition AS kafka_partition,
    r.kafka_offset AS kafka_offset,
    r.record_id AS record_id,
    r.inserted_at AS inserted_at,
    r.arrived_at AS arrived_at,
    d.earlier AS earlier
FROM k2.incoming_records AS r
LEFT ANY JOIN
(
    SELECT kafka_offset, fingerprint, groupUniqArray((inserted_at, arrived_at)) AS earlier
    FROM k2.deliveries
    WHERE (kafka_topic, kafka_partition, intDiv(kafka_offset, 4096)) IN (
            SELECT DISTINCT kafka_topic, kafka_partition, intDiv(kafka_offset, 4096) FROM k2.incoming_records)
        -- The block itself may be there already.
        AND arrived_at NOT IN (SELECT DISTINCT arrived_at FROM k2.incoming_records)
    GROUP BY kafka_offset, fingerprint
) AS d USING (kafka_offset, fingerprint)
-- An earlier block of the same insert has it.
WHERE NOT arrayExists(delivery -> delivery.1 = r.inserted_at AND delivery.2 < r.arrived_at, d.earlier)
LIMIT 1 BY r.kafka_offset, r.fingerprint
-- A view runs with the settings of whoever inserts; a look-up that a profile cuts short would let a record in twice.
SETTINGS join_use_nulls = 0, join_overflow_mode = 'throw', set_overflow_mode = 'throw', distinct_overflow_mode = 'throw',
    group_by_overflow_mode = 'throw', read_overflow_mode = 'throw';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.incoming_records_mv TO k2.incoming_records AS
SELECT * FROM k2.deliveries;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.deliveries_binance_mv TO k2.deliveries AS
SELECT
    'binance' AS exchange,
    r.kafka_topic AS kafka_topic,
    r.kafka_partition AS kafka_partition,
    r.kafka_offset AS kafka_offset,
    if(r.kafka_timestamp = 0, 0, sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_offset, r.kafka_timestamp, r.message)) AS record_id,
    sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_timestamp, r.message) AS fingerprint,
    r.arrived_at AS inserted_at,
    nowInBlock64(6, 'UTC') AS arrived_at,
    r.message AS message
FROM k2.raw_trades_binance AS r;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.deliveries_kraken_mv TO k2.deliveries AS
SELECT
    'kraken' AS exchange,
    r.kafka_topic AS kafka_topic,
    r.kafka_partition AS kafka_partition,
    r.kafka_offset AS kafka_offset,
    if(r.kafka_timestamp = 0, 0, sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_offset, r.kafka_timestamp, r.message)) AS record_id,
    sipHash64(r.kafka_topic, r.kafka_partition, r.kafka_timestamp, r.message) AS fingerprint,
    r.arrived_at AS inserted_at,
    nowInBlock64(6, 'UTC') AS arrived_at,
    r.message AS message
FROM k2.raw_trades_kraken AS r;
