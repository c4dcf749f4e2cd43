"""The fused engine: networks compiled into one loop over pairs of points."""
