"""Grids of runs with their controls: planned, run, resumed, and set against each other."""
