-- What reconciliation found: one row per bucket and comparison. Bounds are epoch microseconds (UTC) or the values of
-- an integer cursor, of the bucket column; null for rows that have none.
CREATE TABLE k2.reconciliations (
    run_id        text        NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    pipeline      text        NOT NULL,
    target        text        NOT NULL,
    watermark     bigint,
    snapshot_id   bigint,
    bucket_start  bigint,
    bucket_end    bigint,
    expiring      boolean     NOT NULL,
    warm_rows     bigint      NOT NULL,
    cold_rows     bigint      NOT NULL,
    warm_checksum numeric(20) NOT NULL,
    cold_checksum numeric(20) NOT NULL,
    status        text        NOT NULL CHECK (status IN ('equal', 'differs', 'partly expired'))
);
CREATE INDEX reconciliations_by_table ON k2.reconciliations (pipeline, target, bucket_start, at DESC);
CREATE INDEX reconciliations_by_run ON k2.reconciliations (run_id);
