"""Numbers and networks in words, as the report shows them."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

import numpy as np

from ntkit.nn import Dense, Serial
from ntkit.nn.base import Layer
from ntkit.theory.certificate import DependentPoints

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float | int | None, digits: int = 4) -> str:
    """A number with `digits` significant digits; a dash for None, ∞ for infinity."""
    if value is None:
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 10.0**digits <= abs(value) < 1e6:
        return f"{value:.0f}".replace("-", "−")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return _power(mantissa, int(exponent))
    return text.replace("-", "−")


def fixed(value: float | None, decimals: int = 3) -> str:
    """A number with a fixed number of decimals, never "−0"; a dash for None."""
    if value is None:
        return "–"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A fraction in per cent with at most one decimal; a dash for None."""
    return "–" if value is None else f"{100.0 * value:.1f}".removesuffix(".0").replace("-", "−") + " %"


def point_groups(groups: Sequence[DependentPoints], most: int = 8) -> str:
    """Groups of points that make a kernel singular, the first few of each, such as "duplicates 3, 7"."""
    shown = []
    for group in groups[:most]:
        points = ", ".join(str(point) for point in group.points[:most])
        more = f" and {len(group.points) - most} more" if len(group.points) > most else ""
        shown.append(f"{group.reason} {points}{more}")
    left = len(groups) - most
    return "; ".join(shown) + (f"; and {left} more groups" if left > 0 else "")


def _power(mantissa: str, exponent: int) -> str:
    """`1.2·10⁻⁷`."""
    return f"{mantissa}·10".replace("-", "−") + str(exponent).translate(SUPERSCRIPTS)


def layer_rows(network: Layer) -> list[tuple[str, str]]:
    """The layers in order, each with its numbers in words; those inside others follow, with a dot in front."""
    layers = network.layers if isinstance(network, Serial) else (network,)
    rows = []
    for position, layer in enumerate(layers):
        if isinstance(layer, Dense):
            what = "readout" if position == len(layers) - 1 else "fully connected"
            rows.append(
                (f"Dense ({what})", f"σ_w = {number(float(layer.w_std))}, σ_b = {number(float(layer.b_std))}")
            )
            continue
        content, inside = [], []
        for field in fields(layer) if is_dataclass(layer) else ():
            value = getattr(layer, field.name)
            if isinstance(value, Layer):
                inside += [(f"· {field.name}: {name}", text) for name, text in layer_rows(value)]
            elif value is not None:
                content.append(f"{field.name} = {_value(value)}")
        rows += [(type(layer).__name__, ", ".join(content)), *inside]
    return rows


def _value(value: object) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return number(float(array)) if array.dtype.kind in "if" else str(value)
    shown = ", ".join(number(float(entry), 3) for entry in array.ravel()[:12])
    return f"[{shown}{', …' if array.size > 12 else ''}]"
