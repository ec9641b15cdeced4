"""What a model can do (zero-shot), and what a selection is worth where the truth is known."""
