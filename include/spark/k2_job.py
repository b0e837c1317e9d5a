"""What spark-submit runs for airflow-provider-k2: all it does comes with it as --py-files.

Its argument is the path of the job's description, which the worker has written and the driver deletes.
"""

from airflow_provider_k2.engines.spark.driver import main

if __name__ == "__main__":
    main()
