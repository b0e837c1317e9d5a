"""Every type that goes cold comes back through the view as it is in the warm tier."""

from __future__ import annotations

from airflow_provider_k2.views.manager import TableView

COLUMNS = {
    "n": ("Int64", "1", "2", "3"),
    "b": ("Bool", "true", "false", "true"),
    "i8": ("Int8", "-128", "127", "0"),
    "u8": ("UInt8", "255", "0", "1"),
    "i16": ("Int16", "-32768", "32767", "0"),
    "u16": ("UInt16", "65535", "0", "1"),
    "i32": ("Int32", "-2147483648", "2147483647", "0"),
    "u32": ("UInt32", "4294967295", "0", "1"),
    "i64": ("Int64", "-9223372036854775808", "9223372036854775807", "0"),
    "u64": ("UInt64", "18446744073709551615", "0", "9223372036854775808"),
    "f32": ("Float32", "1.5", "-0.1", "3.4e38"),
    "f64": ("Float64", "0.1", "-1e300", "inf"),
    "d": ("Date", "'1970-01-01'", "'2149-06-06'", "'2026-11-27'"),
    "d32": ("Date32", "'1900-01-01'", "'2299-12-31'", "'2026-11-27'"),
    "dt": ("DateTime('Europe/Berlin')", "0", "4294967295", "1764201600"),
    "dt0": ("DateTime64(0, 'UTC')", "'1970-01-01 00:00:00'", "'2026-11-27 01:02:03'", "'2000-01-01 00:00:00'"),
    "dt3": ("DateTime64(3, 'Asia/Tokyo')", "'1999-01-01 00:00:00.123'", "'2026-11-27 01:02:03.999'", "0"),
    "dt6": ("DateTime64(6, 'UTC')", "'1900-01-01 00:00:00.000001'", "'2262-04-11 00:00:00.999999'", "0"),
    "s": ("String", "''", "'ü€\\0x'", "'NULL'"),
    "fs": ("FixedString(3)", "'abc'", "'a\\0\\0'", "''"),
    "lc": ("LowCardinality(String)", "'a'", "''", "'b'"),
    "lcn": ("LowCardinality(Nullable(String))", "'a'", "NULL", "''"),
    "e8": ("Enum8('buy' = -1, 'sell' = 7, '' = 0)", "'buy'", "'sell'", "''"),
    "e16": ("Nullable(Enum16('it''s' = 1000, 'b' = 2))", "'it\\'s'", "NULL", "'b'"),
    "u": (
        "UUID",
        "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'",
        "'00000000-0000-0000-0000-000000000000'",
        "generateUUIDv4()",
    ),
    "v4": ("IPv4", "'1.2.3.4'", "'255.255.255.255'", "'0.0.0.0'"),
    "v6": ("IPv6", "'::1'", "'2001:db8::ff'", "'::ffff:1.2.3.4'"),
    "p9": ("Decimal(9, 2)", "'1234567.89'", "'-0.01'", "0"),
    "p18": ("Decimal(18, 8)", "'9999999999.99999999'", "'-0.00000001'", "0"),
    "p38": ("Decimal(38, 8)", "'123456789012345678901234567890.12345678'", "'-1'", "0"),
    "nn": ("Nullable(Int32)", "NULL", "0", "-5"),
    "nd": ("Nullable(Decimal(18, 8))", "NULL", "'0.1'", "0"),
    "nt": ("Nullable(DateTime64(6, 'UTC'))", "NULL", "'2026-01-01 00:00:00.000001'", "NULL"),
    "a": ("Array(String)", "[]", "['']", "['a', 'b']"),
    "an": ("Array(Nullable(Int64))", "[NULL, 1]", "[]", "[9223372036854775807]"),
    "au": ("Array(UInt64)", "[18446744073709551615]", "[]", "[0]"),
    "ae": ("Array(Enum8('x' = 1, 'y' = 2))", "['x']", "['y', 'x']", "[]"),
    "aa": ("Array(Array(Decimal(18, 8)))", "[['0.1'], []]", "[]", "[['1', '2']]"),
    "al": ("Array(LowCardinality(String))", "['a']", "[]", "['', 'b']"),
    "m": ("Map(String, String)", "map()", "map('a', '')", "map('k', 'v', 'z', 'y')"),
    "ml": ("Map(LowCardinality(String), Array(Nullable(Int32)))", "map()", "map('a', [NULL, 1])", "map('k', [])"),
    "mu": ("Map(String, UUID)", "map()", "map('a', '61f0c404-5cb3-11e7-907b-a6006ad3dba0')", "map()"),
}


def test_every_type_comes_back(tiers):
    columns = ", ".join(f"{name} {kind[0]}" for name, kind in COLUMNS.items())
    table = tiers(f"({columns}) ENGINE = MergeTree ORDER BY n PARTITION BY n SETTINGS allow_suspicious_indices = 1")
    for place in (1, 2, 3):
        table.sql(f"INSERT INTO {{t}} SELECT {', '.join(values[place] for values in COLUMNS.values())}")
    table.offload()
    view = TableView(table.config, table.services)
    view.apply(holder="test", wait=0)
    names = ", ".join(COLUMNS)
    # As text, because the driver compares NaN and zones in its own way; with the type of every value.
    seen = f"SELECT {', '.join(f'toString({name}), toTypeName({name})' for name in COLUMNS)} FROM"
    warm = table.sql(f"{seen} {{t}} ORDER BY n")
    assert table.sql(f"{seen} {view.name} ORDER BY n") == warm
    # All of it from the cold tier now.
    seam = view.seams.read(f"all_{table.name}")
    view.seams.write(type(seam)(seam.view, seam.target, 4), "test")
    table.sql("TRUNCATE TABLE {t}")
    assert table.sql(f"{seen} {view.name} ORDER BY n") == warm
    assert table.sql(f"SELECT {names} FROM {view.name} WHERE u64 = 18446744073709551615 AND e8 = 'buy'")
    assert table.clickhouse.columns(view.name) == table.clickhouse.columns(f"test.{table.name}")
