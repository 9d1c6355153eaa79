"""Experiments: what one figure cannot say, measured over several that belong together."""
