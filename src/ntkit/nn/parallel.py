"""Branches that begin at the same values and are merged; residual connections; repetition."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from ntkit.nn.activations.piecewise_linear import Identity
from ntkit.nn.base import Layer, through
from ntkit.nn.law import Law
from ntkit.nn.merging import Merge, crosses, either, merged, merged_law, merged_outputs, merged_shape
from ntkit.nn.serial import Serial, refused_place
from ntkit.nn.state import KernelState
from ntkit.numerics.trees import pytree


class _Branches(Layer):
    """What all layers that consist of branches share."""

    @property
    @abstractmethod
    def branches(self) -> tuple[Layer, ...]:
        """The branches, each with weights of its own."""

    @property
    @abstractmethod
    def _merge(self) -> Merge: ...

    @abstractmethod
    def _with(self, branches: tuple[Layer, ...]) -> Layer:
        """The same with other branches."""

    def _check(self) -> None:
        who = type(self).__name__
        for position, branch in enumerate(self.branches):
            if not isinstance(branch, Layer):
                hint = " Did you mean to call the class, as in Relu()?" if isinstance(branch, type) else ""
                raise ValueError(f"{who} needs layers, got {branch!r} as branch {position}.{hint}")
            for part in getattr(branch, "layers", (branch,)):
                if part.stands_first:
                    raise ValueError(f"{refused_place(part)}, got branch {position} of {who}.")

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Any, ...]:
        self.output_shape(input_shape)
        keys = jax.random.split(key, len(self.branches))
        return tuple(branch.init(k, input_shape) for branch, k in zip(self.branches, keys, strict=True))

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        pairs = zip(self.branches, params, strict=True)
        outputs, presences = zip(*(branch.apply_present(p, x, present) for branch, p in pairs), strict=True)
        return merged_outputs(outputs, self._merge), either(presences)

    def presence(self, present: Any) -> Any:
        return either([branch.presence(present) for branch in self.branches])

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        shapes = [branch.output_shape(input_shape) for branch in self.branches]
        return merged_shape(type(self).__name__, shapes, self._merge)

    def law(self, before: Law) -> Law:
        return merged_law(type(self).__name__, self._laws(before), before, self._merge)

    def _laws(self, before: Law) -> list[Law]:
        start = replace(before, fresh=False)
        return [branch.law(start) for branch in self.branches]

    def needs_means(self, before: Law) -> bool:
        within = any(branch.needs_means(before) for branch in self.branches)
        return within or crosses(self._laws(before), self._merge)

    def propagate(self, state: KernelState) -> KernelState:
        return merged([through(branch, state) for branch in self.branches], self._merge)

    @property
    def composite(self) -> bool:
        return True

    @property
    def mixes_pixels(self) -> bool:
        return any(branch.mixes_pixels for branch in self.branches)

    @property
    def needs_variances(self) -> bool:
        return any(branch.needs_variances for branch in self.branches)

    @property
    def needs_own(self) -> bool:
        return any(branch.needs_own for branch in self.branches)

    @property
    def random(self) -> bool:
        return any(branch.random for branch in self.branches)

    @property
    def homogeneity(self) -> float | None:
        powers = [branch.homogeneity for branch in self.branches]
        known = [power for power in powers if power is not None]
        if len(known) < len(powers):
            return None
        if self._merge == "product":
            return sum(known)
        return known[0] if all(power == known[0] for power in known) else None

    @property
    def adaptable(self) -> bool:
        return any(branch.adaptable for branch in self.branches)

    def adapt(self, state: KernelState, resolution: float) -> Layer:
        return self._with(tuple(branch.adapt(state, resolution) for branch in self.branches))


class Parallel(_Branches):
    """Several layers of the same input, merged: their sum, product, or channels side by side.

    The branches' weights are independent, so that at infinite width, with f_k the share of branch k in all channels,

        sum      nngp' = sum_k nngp_k + sum_(j != k) m_j(x) m_k(x')       ntk' = sum_k ntk_k
        concat   nngp' = sum_k f_k nngp_k   ntk' = sum_k f_k ntk_k
        product  nngp' = prod_k nngp_k      ntk' = sum_k ntk_k prod_(j != k) nngp_j

    with m_k the mean of one unit, `E phi(N(0, var))` after an activation, zero after weights (Yang 2019, "Tensor
    programs I", for sums). The tangent kernel has no such terms: the gradients of two branches in weights before both
    are products with the branches' own weights, which are independent of mean zero.

    At most one branch of a sum or product may be without weights. Raw inputs have no common mean, so they are summed
    with values of mean zero alone. Units that `Flatten` or a concatenation laid side by side differ in distribution:
    two such branches of a product, or of a sum with means other than zero, would meet unit by unit, and are refused.

    Args:
        branches: the layers, at least one.
        merge: "sum", "concat" or "product".

    Raises:
        ValueError: when there is no branch, when something is not a layer, or for an unknown merge.
    """

    _layers: tuple[Layer, ...]
    merge: Merge

    def __init__(self, *branches: Layer, merge: Merge = "sum") -> None:
        if not branches:
            raise ValueError("Parallel needs at least one branch, got none.")
        if merge not in ("sum", "concat", "product"):
            raise ValueError(f'Parallel needs merge "sum", "concat" or "product", got {merge!r}.')
        object.__setattr__(self, "_layers", branches)
        object.__setattr__(self, "merge", merge)
        self._check()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Parallel is immutable; build a new one instead of setting {name}.")

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(repr, self._layers))}, merge={self.merge!r})"

    @property
    def branches(self) -> tuple[Layer, ...]:
        return self._layers

    @property
    def _merge(self) -> Merge:
        return self.merge

    def _with(self, branches: tuple[Layer, ...]) -> Layer:
        return Parallel(*branches, merge=self.merge)


@pytree()
@dataclass(frozen=True, eq=False)
class Residual(_Branches):
    """A residual connection, `y = body(x) + shortcut(x)`: `nngp' = nngp_body + nngp_shortcut`, as `ntk'`.

    He et al. (2016), "Deep residual learning"; the kernels follow from the independence of the weights. Where body and
    shortcut both have a mean other than zero, because both end in activations, its products are added (see `Parallel`).

    Args:
        body: the layer, usually a `Serial`.
        shortcut: `Identity()`, or a layer that changes width or strides as the body does.

    Raises:
        ValueError: when one of them is not a layer.
    """

    body: Layer
    shortcut: Layer = field(default_factory=Identity)

    def __post_init__(self) -> None:
        self._check()

    @property
    def branches(self) -> tuple[Layer, ...]:
        return self.body, self.shortcut

    @property
    def _merge(self) -> Merge:
        return "sum"

    def _with(self, branches: tuple[Layer, ...]) -> Layer:
        return Residual(*branches)


@pytree("times")
@dataclass(frozen=True, eq=False)
class Repeat(Layer):
    """A layer several times in a row: weights of its own each time, but one set of hyper-parameters.

    The same kernels as `Serial(body, body, ...)`; a gradient in `body.w_std` is the sum over the repetitions.

    Args:
        body: the layer, often a `Serial` or a `Residual`.
        times: how often, at least once.

    Raises:
        ValueError: for something that is not a layer, `times` below 1, or a layer that cannot follow itself.
    """

    body: Layer
    times: int

    def __post_init__(self) -> None:
        if not isinstance(self.times, int) or self.times < 1:
            raise ValueError(f"Repeat needs times as a whole number of at least 1, got {self.times!r}.")
        if not isinstance(self.body, Layer):
            raise ValueError(f"Repeat needs a layer, got {self.body!r}.")
        self._serial()

    def _serial(self) -> Serial:
        return Serial(*(self.body,) * self.times)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Any, ...]:
        return self._serial().init(key, input_shape)

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        return self._serial().apply(params, x)

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        return self._serial().apply_present(params, x, present)

    def presence(self, present: Any) -> Any:
        return self._serial().presence(present)

    def present(self, x: Any) -> Any:
        return self.body.present(x)

    @property
    def stands_first(self) -> bool:
        return self.body.stands_first

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._serial().output_shape(input_shape)

    def prepare(self, x: Any) -> Any:
        return self._serial().prepare(x)

    @property
    def prepared(self) -> Layer:
        return replace(self, body=self.body.prepared)

    def law(self, before: Law) -> Law:
        return self._serial().law(before)

    def needs_means(self, before: Law) -> bool:
        return self._serial().needs_means(before)

    def propagate(self, state: KernelState) -> KernelState:
        return self._serial().propagate(state)

    @property
    def composite(self) -> bool:
        return True

    @property
    def mixes_pixels(self) -> bool:
        return self.body.mixes_pixels

    @property
    def needs_variances(self) -> bool:
        return self.body.needs_variances

    @property
    def needs_own(self) -> bool:
        return self._serial().needs_own

    @property
    def random(self) -> bool:
        return self.body.random

    @property
    def homogeneity(self) -> float | None:
        return self._serial().homogeneity

    @property
    def adaptable(self) -> bool:
        return self.body.adaptable

    def adapt(self, state: KernelState, resolution: float) -> Layer:
        return self._serial().adapt(state, resolution) if self.adaptable else self


def _flatten(parallel: Parallel) -> tuple[tuple[Layer, ...], Merge]:
    return parallel.branches, parallel.merge


def _flatten_with_keys(parallel: Parallel) -> tuple[tuple, Merge]:
    keyed = tuple((jax.tree_util.SequenceKey(i), branch) for i, branch in enumerate(parallel.branches))
    return keyed, parallel.merge


def _unflatten(merge: Merge, branches: Any) -> Parallel:
    parallel = object.__new__(Parallel)
    object.__setattr__(parallel, "_layers", tuple(branches))
    object.__setattr__(parallel, "merge", merge)
    return parallel


jax.tree_util.register_pytree_with_keys(Parallel, _flatten_with_keys, _unflatten, _flatten)
