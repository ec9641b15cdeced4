"""Runs and subsets beside each other in one self-contained HTML page: ``compare.html``."""
