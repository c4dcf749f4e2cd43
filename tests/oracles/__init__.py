"""References for the library's kernels, derived and computed without it."""
