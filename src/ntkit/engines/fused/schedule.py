"""A convolutional network as a list of steps on planes of pixel pairs, one list for each size between poolings.

Convolutions couple only pixel pairs (p, p') of equal offset p' - p, with strides those of a multiple of it, and
activations act on each pair by itself: so up to the next pooling each offset goes through all steps alone. Pooling adds
planes of neighbouring offsets together; what it adds to is kept whole, and is where the next level begins.
"""

from dataclasses import dataclass, field, replace
from math import prod

from ntkit.errors import FusionError
from ntkit.nn.activations.base import Activation
from ntkit.nn.activations.piecewise_linear import Identity
from ntkit.nn.base import Layer
from ntkit.nn.convolution import Conv
from ntkit.nn.dense import Dense
from ntkit.nn.flatten import Flatten
from ntkit.nn.layer_norm import LayerNorm
from ntkit.nn.parallel import Parallel, Repeat, Residual
from ntkit.nn.pooling import AvgPool, GlobalAvgPool, GlobalSumPool, SumPool
from ntkit.nn.serial import Serial
from ntkit.nn.windows import amounts, count

Sizes = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """An average over a window of pixels.

    Attributes:
        shape: pixels down and across.
        strides: pixels from one window to the next.
        before: pixels that padding adds above and to the left.
    """

    shape: Sizes
    strides: Sizes
    before: Sizes

    @property
    def reach(self) -> int:
        """How many pixels beyond an image it may touch on one side."""
        return max(self.before + tuple(size - 1 for size in self.shape))


PIXEL = Window((1, 1), (1, 1), (0, 0))


@dataclass(frozen=True)
class Place:
    """Where values live.

    Attributes:
        size: of the image, down and across.
        strides: pixels of the level's first image from one pixel of this to the next.
    """

    size: Sizes
    strides: Sizes


@dataclass(frozen=True)
class Enter:
    """Begin with the images, or with what pooling left in `buffer`."""

    slot: int
    place: Place
    buffer: int | None = None


@dataclass(frozen=True)
class Block:
    """A window, then layers that act on every pair of pixels by itself."""

    slot: int
    before: Place
    place: Place
    window: Window
    layers: tuple[Layer, ...]
    fan_in: int


@dataclass(frozen=True)
class Copy:
    """Keep what is in `slot` in `target` as well, where a branch begins."""

    slot: int
    target: int
    place: Place


@dataclass(frozen=True)
class Add:
    """Add what is in `slot` to `target`, where branches meet."""

    slot: int
    target: int
    place: Place


@dataclass(frozen=True)
class Pool:
    """Add the pixels of windows into `buffer`: the pooling layer, which knows the weights, and the sizes after it."""

    slot: int
    place: Place
    layer: AvgPool | SumPool
    after: Sizes
    buffer: int


@dataclass(frozen=True)
class Total:
    """Add all pairs of pixels up, times `share`."""

    slot: int
    place: Place
    share: float


Step = Enter | Block | Copy | Add | Pool | Total


@dataclass(frozen=True)
class Level:
    """The steps between two poolings.

    Attributes:
        steps: in order.
        circular: whether images continue on their opposite sides, and offsets with them.
        offsets: which offsets matter, down and across.
    """

    steps: tuple[Step, ...]
    circular: bool
    offsets: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Schedule:
    """A network taken apart.

    Attributes:
        pooled_first: poolings of the images themselves, before any weights: done once an image, not once a pair.
        levels: what happens to pairs of pixels.
        buffers: the size of the images in each buffer.
        head: the layers on vectors.
        width: before the head.
    """

    pooled_first: tuple[AvgPool | SumPool, ...]
    levels: tuple[Level, ...]
    buffers: tuple[Sizes, ...]
    head: tuple[Layer, ...]
    width: int


def schedule_of(network: Layer, image: tuple[int, ...]) -> Schedule:
    """The schedule of a network for images (height, width, channels) or sequences (length, channels).

    Raises:
        FusionError: for a network without one; the text says which layer is why.
    """
    if len(image) not in (2, 3):
        raise FusionError(f"images of {len(image) - 1} spatial axes, where 1 and 2 are supported")
    layers = network.layers if isinstance(network, Serial) else (network,)
    first: list[AvgPool | SumPool] = []
    for layer in layers:
        if not isinstance(layer, AvgPool | SumPool):
            break
        first.append(layer)
        image = layer.output_shape((1, *image))[1:]
    builder = _Builder(tuple(first))
    value = builder.begin(two(image[:-1]), image[-1])
    for position, layer in enumerate(layers[len(first) :], len(first)):
        try:
            if isinstance(layer, GlobalAvgPool | GlobalSumPool | Flatten):
                pixels = prod(value.place.size)
                one_each = isinstance(layer, Flatten)
                share = {GlobalAvgPool: 1.0 / pixels**2, Flatten: 1.0 / pixels}.get(type(layer), 1.0)
                builder.emit(value.level, Total(value.slot, value.place, share))
                width = value.width * (pixels if one_each else 1)
                return builder.finish(one_each, tuple(layers[position + 1 :]), width)
            value = builder.layer(layer, value)
        except FusionError as reason:
            raise FusionError(f"layer {position}, {reason}") from None
    raise FusionError("no Flatten or global pooling")


@dataclass
class _Value:
    """What a layer passes to the next: in which slot of which level, and the number of its last block there."""

    level: int
    slot: int
    place: Place
    width: int
    block: int | None = None


@dataclass
class _Builder:
    first: tuple[AvgPool | SumPool, ...]
    steps: list[list[Step]] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    circular: list[bool | None] = field(default_factory=list)
    buffers: list[Sizes] = field(default_factory=list)

    def begin(self, size: Sizes, width: int, level: int = 0, buffer: int | None = None) -> _Value:
        if level == len(self.steps):
            self.steps.append([])
            self.slots.append(0)
            self.circular.append(None)
        value = _Value(level, self.slots[level], Place(size, (1, 1)), width)
        self.slots[level] += 1
        self.emit(level, Enter(value.slot, value.place, buffer))
        return value

    def emit(self, level: int, step: Step) -> int:
        self.steps[level].append(step)
        return len(self.steps[level]) - 1

    def layer(self, layer: Layer, value: _Value) -> _Value:
        """Append what a layer does to a value."""
        if isinstance(layer, Serial | Repeat):
            inner = layer.layers if isinstance(layer, Serial) else (layer.body,) * layer.times
            for each in inner:
                value = self.layer(each, value)
            return value
        if isinstance(layer, Residual) or (isinstance(layer, Parallel) and layer.merge == "sum"):
            return self._sum(layer, value)
        if isinstance(layer, AvgPool | SumPool):
            return self._pool(layer, value)
        if isinstance(layer, Conv):
            return self._convolution(layer, value)
        if isinstance(layer, Identity):
            return value
        if isinstance(layer, Dense):
            return self._block(PIXEL, value.place, (layer,), value.width, layer.width, value)
        if isinstance(layer, Activation) or (isinstance(layer, LayerNorm) and layer.axes == (-1,)):
            if value.block is None:
                return self._block(PIXEL, value.place, (layer,), value.width, value.width, value)
            block = self.steps[value.level][value.block]
            assert isinstance(block, Block)
            self.steps[value.level][value.block] = replace(block, layers=(*block.layers, layer))
            return value if isinstance(layer, LayerNorm) else replace_value(value, block=None)
        raise FusionError(f"{layer!r}, which does not run on planes of pixel pairs")

    def _block(
        self, window: Window, place: Place, layers: tuple[Layer, ...], fan_in: int, width: int, value: _Value
    ) -> _Value:
        step = Block(value.slot, value.place, place, window, layers, fan_in)
        number = self.emit(value.level, step)
        # An activation ends a block: after it the values are no Gaussians, which the next activation would need.
        return _Value(
            value.level, value.slot, place, width, None if isinstance(layers[-1], Activation) else number
        )

    def _convolution(self, layer: Conv, value: _Value) -> _Value:
        shape, strides = two(layer.filter_shape), two(layer.strides or (1,) * len(layer.filter_shape))
        sizes = tuple(zip(value.place.size, shape, strides, strict=True))
        before = tuple(amounts(*each, layer.padding)[0] for each in sizes)
        after = tuple(count(*each, layer.padding) for each in sizes)
        wraps = layer.padding == "circular" and any(sum(amounts(*each, layer.padding)) for each in sizes)
        pads = layer.padding == "same" and any(sum(amounts(*each, layer.padding)) for each in sizes)
        shrinks = any(stride * new != old for (old, _, stride), new in zip(sizes, after, strict=True))
        if wraps or pads or shrinks:
            if self.circular[value.level] not in (None, wraps):
                raise FusionError(f"{layer!r}, with circular and other padding before the next pooling")
            if wraps and (
                shrinks or any(amount > size for size, amount in zip(value.place.size, before, strict=True))
            ):
                raise FusionError(
                    f"{layer!r}, whose strides or window do not fit an image that continues on the other side"
                )
            self.circular[value.level] = wraps
        together = tuple(old * new for old, new in zip(value.place.strides, strides, strict=True))
        place = Place(after, together)  # type: ignore[arg-type]
        window = Window(shape, strides, before)  # type: ignore[arg-type]
        # A convolution is an average over its window, and a dense layer at each pixel.
        dense = Dense(layer.width, layer.w_std, layer.b_std, layer.parametrization)
        return self._block(
            window, place, (dense,), value.width * prod(layer.filter_shape), layer.width, value
        )

    def _pool(self, layer: AvgPool | SumPool, value: _Value) -> _Value:
        shape, strides = two(layer.window_shape), two(layer.strides or layer.window_shape)
        height, width = (
            count(*each, layer.padding) for each in zip(value.place.size, shape, strides, strict=True)
        )
        after = height, width
        self.buffers.append(after)
        buffer = len(self.buffers) - 1
        self.emit(value.level, Pool(value.slot, value.place, layer, after, buffer))
        return self.begin(after, value.width, value.level + 1, buffer)

    def _sum(self, layer: Residual | Parallel, value: _Value) -> _Value:
        starts = []
        for _ in layer.branches[1:]:
            slot = self.slots[value.level]
            self.slots[value.level] += 1
            self.emit(value.level, Copy(value.slot, slot, value.place))
            starts.append(replace_value(value, slot=slot, block=None))
        starts.append(replace_value(value, block=None))
        ends = [self.layer(branch, start) for branch, start in zip(layer.branches, starts, strict=True)]
        *others, last = ends
        for end in others:
            if (end.level, end.place) != (last.level, last.place):
                raise FusionError(f"{type(layer).__name__}, whose branches pool or stride unequally")
            self.emit(end.level, Add(end.slot, last.slot, last.place))
        return replace_value(last, block=None)

    def finish(self, one_each: bool, head: tuple[Layer, ...], width: int) -> Schedule:
        """Find which offsets matter, from the last level back to the first."""
        levels: list[Level] = []
        wanted: dict[int, tuple[set[int], set[int]]] = {}
        for steps, wraps in reversed(list(zip(self.steps, self.circular, strict=True))):
            circular = bool(wraps)
            found: tuple[set[int], set[int]] | None = None
            for step in steps:
                if not isinstance(step, Pool | Total):
                    continue
                axes: list[set[int]] = []
                for axis in (0, 1):
                    size, stride = step.place.size[axis], step.place.strides[axis]
                    if isinstance(step, Pool):
                        shares = pool_shares(step.layer, size, axis)
                        ends = _contributing(shares, wanted[step.buffer][axis], circular)
                    else:
                        ends = {0} if one_each else _all_offsets(size, circular)
                    axes.append({stride * end for end in ends})
                if found is not None and found != tuple(axes):
                    raise FusionError("branches that end a level with unequal offsets")
                found = axes[0], axes[1]
            assert found is not None
            levels.insert(
                0, Level(tuple(steps), circular, (tuple(sorted(found[0])), tuple(sorted(found[1]))))
            )
            for step in steps:
                if isinstance(step, Enter) and step.buffer is not None:
                    # An offset on a circular image is two differences of pixels.
                    down, across = (
                        ends | {end - size for end in ends} if circular else ends
                        for ends, size in zip(found, step.place.size, strict=True)
                    )
                    wanted[step.buffer] = down, across
        return Schedule(self.first, tuple(levels), tuple(self.buffers), head, width)


def two(sizes: tuple[int, ...]) -> Sizes:
    """Sizes down and across: a sequence is an image of one row."""
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def replace_value(value: _Value, **changes: int | None) -> _Value:
    """A copy of a value with changes."""
    return replace(value, **changes)  # type: ignore[arg-type]


def _all_offsets(size: int, circular: bool) -> set[int]:
    return set(range(size)) if circular else set(range(1 - size, size))


def pool_shares(layer: AvgPool | SumPool, size: int, axis: int) -> list[list[tuple[int, float]]]:
    """For each pixel along an axis the windows that it lies in, with its share in each."""
    window, stride = two(layer.window_shape)[axis], two(layer.strides or layer.window_shape)[axis]
    before, _ = amounts(size, window, stride, layer.padding)
    shares: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for number in range(count(size, window, stride, layer.padding)):
        pixels = [number * stride - before + tap for tap in range(window)]
        if layer.padding == "circular":
            pixels = [pixel % size for pixel in pixels]
        inside = [pixel for pixel in pixels if 0 <= pixel < size]
        divisor = 1
        if isinstance(layer, AvgPool):
            divisor = len(inside) if layer.normalize_edges else window
        for pixel in inside:
            shares[pixel].append((number, 1.0 / divisor))
    return shares


def _contributing(shares: list[list[tuple[int, float]]], wanted: set[int], circular: bool) -> set[int]:
    """The offsets between pixels whose windows are a wanted offset apart."""
    size = len(shares)
    result = set()
    for p, here in enumerate(shares):
        for q, there in enumerate(shares):
            if any(b - a in wanted for a, _ in here for b, _ in there):
                result.add((q - p) % size if circular else q - p)
    return result
