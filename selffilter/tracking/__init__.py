"""Where metrics go: JSON lines in the run directory, Weights & Biases, the terminal."""
