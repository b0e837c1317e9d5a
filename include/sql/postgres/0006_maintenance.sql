-- What the care of cold tables did: one row per table and run, with the table's figures before and after.
CREATE TABLE k2.maintenance (
    run_id      text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    target      text        NOT NULL,
    target_uuid text        NOT NULL,
    who         text        NOT NULL,
    report      jsonb       NOT NULL
);
CREATE INDEX maintenance_by_table ON k2.maintenance (target, at DESC);
-- Files that nothing needs, and when a run first saw that: they go later, by this clock and not the worker's.
CREATE TABLE k2.orphans (
    target_uuid text        NOT NULL,
    path        text        NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- A path may be longer than an index takes.
CREATE UNIQUE INDEX orphans_by_path ON k2.orphans (target_uuid, md5(path));
