"""One run of one table: from the run conf to committed, recorded windows."""
