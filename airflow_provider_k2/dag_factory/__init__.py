"""DAGs from a table list: the offload, the comparison, the deletion gate."""
