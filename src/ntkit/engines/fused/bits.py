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
