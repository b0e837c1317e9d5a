-- The ledger: watermarks, leases, every window ever offloaded, and who changed what by hand.
-- Cursor bounds are epoch microseconds (UTC), or the values of an integer cursor.
CREATE TABLE k2.watermarks (
    pipeline    text        NOT NULL,
    target      text        NOT NULL,
    source      text        NOT NULL,
    source_uuid text        NOT NULL,
    target_uuid text        NOT NULL,
    watermark   bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, target)
);

-- One row per table; the token grows with every new holder, so a holder that lost its lease is known by its token.
CREATE TABLE k2.leases (
    pipeline   text        NOT NULL,
    target     text        NOT NULL,
    holder     text,
    token      bigint      NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (pipeline, target)
);

CREATE TABLE k2.windows (
    window_id     uuid        PRIMARY KEY,
    pipeline      text        NOT NULL,
    target        text        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('scheduled', 'backfill', 'repair')),
    lower_bound   bigint      NOT NULL,
    upper_bound   bigint      NOT NULL CHECK (upper_bound >= lower_bound),
    state         text        NOT NULL CHECK (state IN ('claimed', 'committed', 'failed', 'abandoned')),
    engine        text        NOT NULL,
    run_id        text        NOT NULL,
    token         bigint      NOT NULL,
    row_count     bigint,
    byte_count    bigint,
    checksum      numeric(20),
    snapshot_id   bigint,
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    timings       jsonb,
    error         text
);
CREATE INDEX windows_by_table ON k2.windows (pipeline, target, lower_bound, upper_bound);
CREATE INDEX windows_by_run ON k2.windows (run_id);

CREATE TABLE k2.events (
    event_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text        NOT NULL,
    action    text        NOT NULL,
    pipeline  text        NOT NULL,
    target    text        NOT NULL,
    before    bigint,
    after     bigint,
    reason    text        NOT NULL
);
