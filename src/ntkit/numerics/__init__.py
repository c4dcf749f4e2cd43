"""Numerical ground rules, kept in one place: precision, angles, Hermite expansions, definiteness."""
