-- What feeds the landing tables in production: a Kafka engine table per topic, and a view that passes its messages on.
-- Apply after the files of the folder above, on a real server only: the local system has a feeder (`k2 replay`) instead.
-- Brokers, and credentials if needed, are in the named collection `k2_kafka` of the server, not here (docs/live.md).
-- RawBLOB takes a message as it is: nothing is parsed and nothing can be rejected before the landing table. Should somebody choose
-- another format, the error mode `stream` passes on what it cannot read, and it becomes a dead letter.
-- One insert has at most 50,000 records, and begins after a second at the latest. Offsets are committed once the insert is in all
-- tables: a record is delivered at least once, and counts once (docs/warm-tier.md, Redelivery). One consumer takes all partitions of a
-- topic; for more, raise kafka_num_consumers, up to the partitions and the server's cores.
CREATE TABLE IF NOT EXISTS k2.kafka_trades_binance
(
    message String
)
ENGINE = Kafka(k2_kafka)
SETTINGS
    kafka_topic_list = 'market.crypto.trades.binance.raw',
    kafka_group_name = 'k2_warm_binance',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_max_block_size = 50000,
    kafka_poll_max_batch_size = 50000,
    kafka_flush_interval_ms = 1000,
    kafka_handle_error_mode = 'stream';

CREATE TABLE IF NOT EXISTS k2.kafka_trades_kraken
(
    message String
)
ENGINE = Kafka(k2_kafka)
SETTINGS
    kafka_topic_list = 'market.crypto.trades.kraken.raw',
    kafka_group_name = 'k2_warm_kraken',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_max_block_size = 50000,
    kafka_poll_max_batch_size = 50000,
    kafka_flush_interval_ms = 1000,
    kafka_handle_error_mode = 'stream';

-- A view starts the consumer: these come last.
CREATE MATERIALIZED VIEW IF NOT EXISTS k2.kafka_trades_binance_mv TO k2.raw_trades_binance AS
SELECT
    if(_error = '', message, _raw_message) AS message,
    _topic AS kafka_topic,
    toInt32(_partition) AS kafka_partition,
    toInt64(_offset) AS kafka_offset,
    ifNull(toUnixTimestamp64Milli(_timestamp_ms), 0) AS kafka_timestamp
FROM k2.kafka_trades_binance;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.kafka_trades_kraken_mv TO k2.raw_trades_kraken AS
SELECT
    if(_error = '', message, _raw_message) AS message,
    _topic AS kafka_topic,
    toInt32(_partition) AS kafka_partition,
    toInt64(_offset) AS kafka_offset,
    ifNull(toUnixTimestamp64Milli(_timestamp_ms), 0) AS kafka_timestamp
FROM k2.kafka_trades_kraken;
