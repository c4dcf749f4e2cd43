"""Every exception and warning of ntkit: each text names the argument and says what to do next."""


class NtkitError(Exception):
    """Base of the errors that are particular to ntkit; plain bad arguments raise `ValueError`."""


class NotPositiveDefiniteError(NtkitError, ValueError):
    """A Gram matrix could not be factored; the text names kernel, dtype, eigenvalue and remedies."""


class DivergenceError(NtkitError, ValueError):
    """A discrete-time learning rate at which gradient descent diverges."""


class IntegrationError(NtkitError, RuntimeError):
    """A flow of a general loss could not be integrated further; the text says how far it came."""


class ConvergenceError(NtkitError, RuntimeError):
    """An iteration ended before it reached its tolerance; the text says how far it came."""


class KernelUndefinedError(NtkitError, ValueError):
    """The requested kernel does not exist, e.g. the NTK through a step function."""


class KernelOverflowError(NtkitError, ValueError):
    """A kernel value is too large for its dtype (large `w_std`, great depth, float32)."""


class FusionError(NtkitError, ValueError):
    """A network that the fused engine cannot run; the text says which layer and why."""


class AccuracyWarning(UserWarning):
    """A result is less accurate than asked for; the text states what was reached."""


class TableError(NtkitError, ValueError):
    """A table that cannot be used as asked; the text names the column, the count and the remedies."""


class ImageError(NtkitError, ValueError):
    """Images that cannot be used as asked; the text names the file or the array, and the remedy."""


class ModelFileError(NtkitError, ValueError):
    """A saved model that is missing, damaged, of another version, or cannot be written."""
