#!/bin/bash
# Runs once, on an empty volume: the ledger's database and Airflow's, each with an owner of the same name.
set -euo pipefail
psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 <<'SQL'
\getenv k2_password K2_DB_PASSWORD
\getenv airflow_password AIRFLOW_DB_PASSWORD
CREATE ROLE k2 LOGIN PASSWORD :'k2_password';
CREATE DATABASE k2 OWNER k2;
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
SQL
