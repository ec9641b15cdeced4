"""The pass over the pool; one file a signal. Writes columns: what to keep is for selecting."""
