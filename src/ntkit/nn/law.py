"""What is known of the values after a layer at infinite width: whether they are Gaussian, their mean, their likeness.

An activation's dual is an expectation over Gaussian values; the kernel of a sum is the sum of kernels where the
summands are uncorrelated. Networks are checked by following this through their layers when they are put together, and
once more, from raw inputs, when they meet some.
"""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Law:
    """The distribution of one layer's values.

    Attributes:
        kind: "inputs" before any layer of a network, "unknown" before one that may be part of another, "gaussian" after
            weights, "other" after what bends.
        source: the name of the layer that made it so.
        mean: "zero"; "followed" where states carry it; "unknown" for raw inputs.
        fresh: whether weights came since the beginning, so that the values are uncorrelated with others that
            begin there.
        alike: whether all units of a pixel are distributed alike, as they are not side by side after `Flatten` or a
            concatenation.
    """

    kind: Literal["inputs", "unknown", "gaussian", "other"]
    source: str
    mean: Literal["zero", "followed", "unknown"]
    fresh: bool
    alike: bool = True

    @classmethod
    def inputs(cls) -> "Law":
        """That of raw inputs."""
        return cls("inputs", "the inputs", mean="unknown", fresh=False, alike=False)

    @classmethod
    def unknown(cls) -> "Law":
        """That of the values before a layer by itself, which may stand anywhere: whatever suits it."""
        return cls("unknown", "the layers before", mean="zero", fresh=False)

    @classmethod
    def weighted(cls, source: str) -> "Law":
        """That after a layer with weights of its own."""
        return cls("gaussian", source, mean="zero", fresh=True)

    def bent(self, source: str) -> "Law":
        """That after an activation.

        Raises:
            ValueError: where the values are not Gaussian.
        """
        if self.kind == "other":
            raise ValueError(
                f"{source} needs Gaussian values, got those after {self.source}, which have another distribution even "
                "at infinite width. Put a Dense or Conv layer in between."
            )
        if self.kind == "gaussian" and not self.alike:
            raise ValueError(
                f"{source} needs units of one variance, got those after {self.source}, which lays units of different "
                f"pixels or branches side by side. Put {source} before it, or a Dense layer in between."
            )
        mean = "followed" if self.mean == "zero" else "unknown"
        return replace(self, kind="other", source=source, mean=mean)
