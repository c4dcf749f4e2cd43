"""PyTorch on one thread: its pool of threads beside the other test processes costs more than these small tests."""

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
