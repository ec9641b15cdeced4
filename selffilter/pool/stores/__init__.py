"""Where shards lie: on a disk, on a server, or at the end of a pipe; one file each."""
