"""Methods for neural gradients: unbiased ways to make them small or sparse, and their baselines.

May import the core and analysis, never the rooms above it.
"""
