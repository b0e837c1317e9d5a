-- The stages between landing and the layers. The Null engine stores nothing: rows pass through to the views.

-- Stage 0, shared: records as they are delivered, then each record once. See 07_deliveries.sql.
CREATE TABLE IF NOT EXISTS k2.incoming_records
(
    exchange        LowCardinality(String),
    message         String,
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64,
    fingerprint     UInt64,
    record_id       UInt64 DEFAULT 0, -- of a record from a broker; 0: of a file that is replayed, see 09_trade_claims.sql
    inserted_at     DateTime64(6, 'UTC'),
    arrived_at      DateTime64(6, 'UTC')
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS k2.accepted_records
(
    exchange        LowCardinality(String),
    message         String,
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64,
    record_id       UInt64 DEFAULT 0,
    inserted_at     DateTime64(6, 'UTC'),
    arrived_at      DateTime64(6, 'UTC'),
    -- Its earlier deliveries; none, for nearly all.
    earlier         Array(Tuple(inserted_at DateTime64(6, 'UTC'), arrived_at DateTime64(6, 'UTC')))
)
ENGINE = Null;

-- Stage 1, written per exchange: one row per trade, every value still the text that the exchange wrote. A message in which
-- no trade can be found is one row with its `problem`.
CREATE TABLE IF NOT EXISTS k2.extracted_trades
(
    exchange        LowCardinality(String),
    message         String,
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64,
    record_id       UInt64 DEFAULT 0,
    inserted_at     DateTime64(6, 'UTC'),
    arrived_at      DateTime64(6, 'UTC'),
    earlier         Array(Tuple(inserted_at DateTime64(6, 'UTC'), arrived_at DateTime64(6, 'UTC'))),
    position        UInt32,                 -- of the trade in its message, from 0
    problem         String,
    symbol          String,
    price           String,
    quantity        String,
    time            String,
    time_format     LowCardinality(String), -- milliseconds (or microseconds), seconds or rfc3339
    event_time      String,                 -- the same, or empty: the trade's time
    trade_id        String,                 -- empty if the form has none
    needs_trade_id  Bool,
    side            LowCardinality(String), -- the taker's: BUY, SELL, or empty when it cannot be told
    conditions      Array(String),
    vendor_data     Map(String, String)
)
ENGINE = Null;

-- Stage 2, shared: typed and checked. `reason` is empty for a good trade; the typed columns mean nothing otherwise.
CREATE TABLE IF NOT EXISTS k2.typed_trades
(
    exchange         LowCardinality(String),
    message          String,
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    kafka_offset     Int64,
    record_id        UInt64,
    inserted_at      DateTime64(6, 'UTC'),
    arrived_at       DateTime64(6, 'UTC'),
    earlier          Array(Tuple(inserted_at DateTime64(6, 'UTC'), arrived_at DateTime64(6, 'UTC'))),
    position         UInt32,
    reason           String,
    message_id       String,
    trade_id         String,
    symbol           String,
    canonical_symbol String,
    currency         String,
    price            Decimal(18, 8),
    quantity         Decimal(18, 8),
    quote_volume     Decimal(18, 8),
    side             Enum8('BUY' = 1, 'SELL' = 2),
    trade_conditions Array(String),
    timestamp        DateTime64(6, 'UTC'),
    event_time       DateTime64(6, 'UTC'),
    source_sequence  UInt64,
    vendor_data      Map(String, String),
    validation_errors Array(String)
)
ENGINE = Null;

-- Stage 3, shared: every trade once, see 09_trade_claims.sql.
CREATE TABLE IF NOT EXISTS k2.parsed_trades
(
    exchange         LowCardinality(String),
    message          String,
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    kafka_offset     Int64,
    inserted_at      DateTime64(6, 'UTC'),
    arrived_at       DateTime64(6, 'UTC'),
    earlier          Array(Tuple(inserted_at DateTime64(6, 'UTC'), arrived_at DateTime64(6, 'UTC'))),
    position         UInt32,
    reason           String,
    message_id       String,
    trade_id         String,
    symbol           String,
    canonical_symbol String,
    currency         String,
    price            Decimal(18, 8),
    quantity         Decimal(18, 8),
    quote_volume     Decimal(18, 8),
    side             Enum8('BUY' = 1, 'SELL' = 2),
    trade_conditions Array(String),
    timestamp        DateTime64(6, 'UTC'),
    event_time       DateTime64(6, 'UTC'),
    source_sequence  UInt64,
    vendor_data      Map(String, String),
    validation_errors Array(String)
)
ENGINE = Null;

-- Stage 4: candles of one minute of the trades that an insert brings to silver. All candles are made from these, which are few.
CREATE TABLE IF NOT EXISTS k2.trade_minutes
(
    exchange         LowCardinality(String),
    canonical_symbol LowCardinality(String),
    window_start     DateTime64(6, 'UTC'),
    open_time        DateTime64(6, 'UTC'),
    open_price       AggregateFunction(argMin, Decimal(18, 8), UInt256),
    close_time       DateTime64(6, 'UTC'),
    close_price      AggregateFunction(argMax, Decimal(18, 8), UInt256),
    high_price       Decimal(18, 8),
    low_price        Decimal(18, 8),
    volume           Decimal(38, 8),
    quote_volume     Decimal(38, 8),
    trade_count      UInt64,
    last_update      DateTime64(6, 'UTC'),
    updates          Array(DateTime64(6, 'UTC'))
)
ENGINE = Null;
