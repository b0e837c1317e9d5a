-- Coinbase, see 01_kafka.sql.
CREATE TABLE IF NOT EXISTS k2.kafka_trades_coinbase
(
    message String
)
ENGINE = Kafka(k2_kafka)
SETTINGS
    kafka_topic_list = 'market.crypto.trades.coinbase.raw',
    kafka_group_name = 'k2_warm_coinbase',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_max_block_size = 50000,
    kafka_poll_max_batch_size = 50000,
    kafka_flush_interval_ms = 1000,
    kafka_handle_error_mode = 'stream';

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.kafka_trades_coinbase_mv TO k2.raw_trades_coinbase AS
SELECT
    if(_error = '', message, _raw_message) AS message,
    _topic AS kafka_topic,
    toInt32(_partition) AS kafka_partition,
    toInt64(_offset) AS kafka_offset,
    ifNull(toUnixTimestamp64Milli(_timestamp_ms), 0) AS kafka_timestamp
FROM k2.kafka_trades_coinbase;
