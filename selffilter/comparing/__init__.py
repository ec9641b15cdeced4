"""Runs and subsets beside each other: `selffilter compare`."""
