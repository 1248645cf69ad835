"""The version of the world."""

VERSION = 1
"""Raise it when a pixel or a layout changes, and draw the golden values anew (tests/sketchgen/test_shapeworld.py)."""
