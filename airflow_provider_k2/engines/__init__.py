"""How a window moves. Both engines end in the same commit protocol (:mod:`airflow_provider_k2.commit`)."""
