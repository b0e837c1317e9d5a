"""ClickHouse itself, without any notion of tables that go cold: its SQL, its types, its HTTP protocol. No Airflow."""
