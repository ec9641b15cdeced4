"""The model: build, load and export through open_clip; exact contrastive losses; FLOPs."""
