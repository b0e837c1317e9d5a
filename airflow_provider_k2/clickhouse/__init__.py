"""What is ClickHouse's and knows nothing of tables that go cold: its SQL, its types, its protocol over HTTP.

No Airflow.
"""
