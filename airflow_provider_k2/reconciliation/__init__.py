"""Reconciliation: both tiers measured by code paths of their own, compared by bucket, repaired by atomic replaces."""
