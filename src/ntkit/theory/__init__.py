"""What the spectrum of a kernel predicts."""
