"""Activations: scalar functions with their dual functions, one family a file."""
