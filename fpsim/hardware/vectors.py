"""Test vectors: operands, result and flags of an operation, as files that benches read.

Imports arguments, catalog, format, rounding, stream, cast, arithmetic, accumulate.

The vector format
-----------------
``<operation>_<rounding>_<overflow>.txt``, casts with their source in between
(``cast_binary32_ties_to_even_nan.txt``, ``mul_toward_zero_infinity.txt``,
``add_stochastic_a8_nan.txt``, ``dot4_ties_to_even_nan.txt``), is TestFloat's text: a test is a line,
its fields are hexadecimal numbers in upper case with one space in between and no prefix, padded
with zeros to ``ceil(bits / 4)`` digits:

- the operands, as codes: ``x`` (cast), ``x y`` (add, mul), ``x y z`` (fma: x·y + z),
  ``a0 … b0 … c`` (dot);
- where rounding is stochastic, the random integer R, of as many bits as the mode has (of 64 where
  every discarded bit counts; dot has one for each rounding: ``random0 …``);
- the result, as a code (of the accumulator's format in dot);
- the flags, 5 bits and so two digits, `fpsim.Flag`'s (SoftFloat's) numbers: 1 inexact, 2 underflow,
  4 overflow, 8 divide by zero, 16 invalid. dot has none.

``.mem`` is the same for ``$readmemh``: a comment, then a word a test, the line's digits with
underscores for spaces. Every field so takes whole digits: the last field of f digits is in bits
``4*f-1`` to 0, and so on upwards; `Field.low` says where. ``.csv`` has a heading and numbers with
the prefix ``0x``.

A NaN result is `Format.nan_code`. Tests whose result is a NaN that the format lacks are left out.
"""
