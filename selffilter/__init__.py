"""selffilter: CLIP models that clean their own training data, round by round."""

__version__ = "0.1.0"
