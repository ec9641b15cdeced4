"""What can be done with a run's directory beside running it: read, fork, move, write as shards."""
