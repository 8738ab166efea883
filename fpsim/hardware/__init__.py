"""hardware: what a designer takes away. Imports the casts and operations; jinja2 in functions.

Nothing of it is imported by ``fpsim`` itself.
"""
