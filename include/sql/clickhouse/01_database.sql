-- The warm tier: real-time data, bounded by TTL.
CREATE DATABASE IF NOT EXISTS k2;
