"""A run in one self-contained HTML page: `selffilter report`."""
