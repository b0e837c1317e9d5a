"""Schemas: ClickHouse types, the type plan, the cold table's schema and partition spec."""
