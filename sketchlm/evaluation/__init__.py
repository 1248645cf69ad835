"""Evaluation: questions and controls, figures, and the report of them."""
