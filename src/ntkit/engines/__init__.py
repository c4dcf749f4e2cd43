"""Engines: how the recursion of a network is executed over many pairs of inputs."""
