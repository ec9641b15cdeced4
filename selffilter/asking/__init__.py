"""What became of a sample in a run, and why: `selffilter why`."""
