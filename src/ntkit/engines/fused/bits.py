"""Powers of two by their bit pattern, for compiled loops."""

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
