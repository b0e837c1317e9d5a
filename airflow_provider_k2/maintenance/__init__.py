"""The care of cold tables, ours and those of others: small files, manifests, old snapshots, files that nobody needs."""
