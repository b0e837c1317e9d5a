#!/bin/bash
# Creates what is missing of the warm tier; every statement is safe to run again.
set -euo pipefail
export CLICKHOUSE_USER CLICKHOUSE_PASSWORD # clickhouse-client reads them: no password on a command line
for file in /sql/*.sql /sql/kafka/*.sql; do
    echo "$file"
    clickhouse-client --host clickhouse --multiquery <"$file"
done
