"""Data as it lies on disk: the index of the tars, reading rows, decoding, subsets, noise."""
