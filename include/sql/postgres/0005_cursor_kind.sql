-- Whether a window's bounds are times. Null in rows that were written before: then the size of the bounds tells it.
ALTER TABLE k2.windows ADD COLUMN is_time boolean;
