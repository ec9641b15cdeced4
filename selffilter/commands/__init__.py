"""The commands, in groups: they parse, call and print. Heavy imports wait until one needs them."""
