"""Reconciliation: both tiers measured by separate code, compared by bucket, repaired by atomic replaces."""
