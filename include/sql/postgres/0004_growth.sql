-- The ledger grows by a row a window for years: what every window, a person or the page asks for is found by an index.
-- Claims that were left behind are a few rows of the whole table.
CREATE INDEX windows_claimed ON k2.windows (pipeline, target) WHERE state = 'claimed';
-- The newest windows of a table (`k2 watermarks history`), and of all tables (the page in Airflow's UI).
CREATE INDEX windows_newest_of_table ON k2.windows (pipeline, target, started_at DESC, lower_bound DESC);
CREATE INDEX windows_newest ON k2.windows (started_at DESC);
-- The window before, into which an empty one is folded; and what has been kept for long enough.
CREATE INDEX windows_committed ON k2.windows (pipeline, target, finished_at) WHERE state = 'committed';
CREATE INDEX windows_not_moved ON k2.windows (pipeline, target, finished_at) WHERE state IN ('failed', 'abandoned');
