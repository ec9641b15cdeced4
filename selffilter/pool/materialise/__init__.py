"""A selection written as shards of its own: what stands where, reading, shrinking, writing."""
