-- Every entry of every table list that has been offloaded, as it was in its last run: the ledger is the only place that all
-- pipelines share, and the deletion gate checks all that read the same warm table.
CREATE TABLE k2.entries (
    pipeline    text        NOT NULL,
    target      text        NOT NULL,
    source      text        NOT NULL,
    identity    text        NOT NULL,
    source_uuid text        NOT NULL,
    target_uuid text        NOT NULL,
    -- UUIDs of the source, and of every table and view that it reads; names of what could not be found there.
    read_uuids  text[]      NOT NULL,
    read_names  text[]      NOT NULL,
    -- The entry itself, as the table list has it.
    entry       jsonb       NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, target)
);
