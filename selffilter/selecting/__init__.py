"""What the next round trains on: a confident and a diverse share. Pure; no torch in it."""
