"""What data asks of a format: sketch, lognormal fit, exact errors, recommendation.

May import the core (format, catalog, rounding, kernels, cast), never the rooms above it.
"""
