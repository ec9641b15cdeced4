"""The experiments by name, in the order of the report."""

from selffilter.theory.experiments import (
    assumptions,
    eta_sweep,
    histograms,
    keep_map,
    kept_table,
    n_sweep,
    self_filtering,
    spectrum,
    thresholds,
)
from selffilter.theory.experiments.base import Effort, Experiment

REPRODUCTION = (
    kept_table.EXPERIMENT,
    eta_sweep.EXPERIMENT,
    n_sweep.EXPERIMENT,
    histograms.EXPERIMENT,
)
BEYOND: tuple[Experiment, ...] = (
    self_filtering.EXPERIMENT,
    self_filtering.ETA_EXPERIMENT,
    thresholds.EXPERIMENT,
    keep_map.EXPERIMENT,
    assumptions.EXPERIMENT,
    spectrum.EXPERIMENT,
)
EXPERIMENTS = {experiment.name: experiment for experiment in REPRODUCTION + BEYOND}

__all__ = ["BEYOND", "EXPERIMENTS", "REPRODUCTION", "Effort", "Experiment"]
