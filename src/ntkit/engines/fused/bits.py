"""What compiled loops need of LLVM that Numba has no word for."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def power_of_two(typing_context, exponent):
    """`2^n` for a whole number n given as a float, as a float of its type: n goes into the exponent's bits."""
    if exponent == types.float32:
        whole, mantissa, bias = ir.IntType(32), 23, 127
    elif exponent == types.float64:
        whole, mantissa, bias = ir.IntType(64), 52, 1023
    else:
        return None

    def generate(context, builder, signature, arguments):
        number = builder.fptosi(arguments[0], whole)
        shifted = builder.shl(builder.add(number, ir.Constant(whole, bias)), ir.Constant(whole, mantissa))
        return builder.bitcast(shifted, context.get_value_type(signature.return_type))

    return exponent(exponent), generate


@intrinsic
def full_width(typing_context):
    """Have the function that calls this vectorised to the machine's full width.

    On most processors with 512-bit vectors LLVM prefers 256 bits, in fear of lower clock rates; loops of nothing but
    arithmetic gain more than they lose. Without such vectors it does nothing.
    """

    def generate(context, builder, signature, arguments):
        builder.function.attributes.update({'"prefer-vector-width"="512"'})
        builder.function.attributes.alignstack = 64
        return context.get_dummy_value()

    return types.void(), generate


def _scopes(builder, numbers):
    """LLVM's metadata for regions of memory of which loops promise that they do not overlap."""
    module = builder.module
    domain = module.add_metadata(["ntkit"])
    return module.add_metadata([module.add_metadata([f"ntkit{number}", domain]) for number in numbers])


def _pointer(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _reader(elsewhere):
    @intrinsic
    def read(typing_context, array, index):
        def generate(context, builder, signature, arguments):
            value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
            value.set_metadata("noalias", _scopes(builder, elsewhere))
            return value

        return array.dtype(array, types.intp), generate

    return read


def _writer(here, elsewhere):
    @intrinsic
    def write(typing_context, array, index, number):
        def generate(context, builder, signature, arguments):
            array_value, index_value, stored = arguments
            pointer = _pointer(context, builder, signature.args[0], array_value, index_value)
            instruction = builder.store(stored, pointer)
            instruction.set_metadata("alias.scope", _scopes(builder, [here]))
            instruction.set_metadata("noalias", _scopes(builder, elsewhere))
            return context.get_dummy_value()

        return types.void(array, types.intp, array.dtype), generate

    return write


get = _reader((0, 1, 2))
"""`get(array, i)`: entry i of a vector, unchecked, promised to lie outside everything that `put0` to `put2` write."""

put0, put1, put2 = _writer(0, (1, 2)), _writer(1, (0, 2)), _writer(2, (0, 1))
"""`put(array, i, number)`: set entry i of a vector, unchecked; the three write to vectors that do not overlap.

A loop over entries needs no check at run time whether its vectors overlap, which costs more than short loops do.
"""

get_before = _reader((3,))
"""As `get`, promised to lie outside what `put_before` writes."""

put_before = _writer(3, ())


@intrinsic
def separate(typing_context):
    """Keep the function that calls this a function: promises of `get` and `put` hold within one call only."""

    def generate(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate
