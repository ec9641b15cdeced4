"""The stages of a round, one file each: what it reads, what it calls, what it leaves on disk."""
