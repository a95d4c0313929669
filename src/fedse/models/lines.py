"""Weighted sums of lines of 32 numbers: the inner loop of attention on a CPU, forwards, backwards and in a rollout.

Importing it needs numba, which has no wheel for every Python and system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fedse.models.compiled import inlined

#: Numbers of a line.
LINE = 32
HALF = LINE // 2

#: Halves of a line that are summed at once.  Processors without AVX512 have 16 registers of 8 numbers each, too few for
#: the sums of four rows of both.
_AT_ONCE = ((0, 1),) if get_host_cpu_features().get("avx512f") else ((0,), (1,))


def _add_weighted_to(rows: int, *, ahead: bool) -> Any:
    """The function that adds weighted lines to so many rows at once, so that each line is read once for all.

    Of every row r < rows it adds Σ weights[start + r · start_step + i · step] · lines[first + i · LINE :][:LINE] over i
    < count to result[into + r · into_step :][:LINE].  Arrays are taken as flat; ``count`` is even.  Sums stay in
    registers, of a lone row in two parts, since each waits for its last product.  With ``ahead`` the memory is
    meanwhile asked for as many lines from ``next`` on.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def add_weighted(
        _: Any,
        result: Any,
        _into: Any,
        _into_step: Any,
        weights: Any,
        _start: Any,
        _start_step: Any,
        _step: Any,
        _count: Any,
        lines: Any,
        _first: Any,
        _next: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, kind: Any, given: Any) -> Any:
            to, by, stored = (context.make_array(kind.args[i])(context, builder, given[i]).data for i in (0, 3, 8))
            into, into_step, start, start_step, step, count, first, following = (
                given[i] for i in (1, 2, 4, 5, 6, 7, 9, 10)
            )
            number, word = ir.IntType(64), ir.IntType(32)
            vector, words = ir.VectorType(ir.FloatType(), HALF), ir.VectorType(word, HALF)
            zeros, same = ir.Constant(vector, [0.0] * HALF), ir.Constant(words, [0] * HALF)
            kind_of_call = ir.FunctionType(vector, [vector] * 3)
            multiply_add = cgutils.get_or_insert_function(builder.module, kind_of_call, f"llvm.fma.v{HALF}f32")

            byte = ir.IntType(8).as_pointer()
            kind_of_call = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            prefetch = cgutils.get_or_insert_function(builder.module, kind_of_call, "llvm.prefetch.p0")

            def at(data: Any, place: Any, kind: Any) -> Any:
                return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())

            def line(place: Any, halves: Sequence[int]) -> list[Any]:
                """Those halves of a line, as float32."""
                if lines.dtype != types.int16:
                    ends = [builder.add(place, number(half * HALF)) for half in halves]
                    return [builder.load(at(stored, end, vector), align=4) for end in ends]
                pairs = builder.load(at(stored, place, words), align=2)
                shifted = builder.shl(pairs, ir.Constant(words, [16] * HALF))
                masked = builder.and_(pairs, ir.Constant(words, [0xFFFF0000] * HALF))
                return [builder.bitcast((shifted, masked)[half], vector) for half in halves]

            def ask_for(i: Any, halves: Sequence[int]) -> None:
                """Of a line that is to come, 64 bytes at a time."""
                for half in halves if lines.dtype != types.int16 else set(halves) & {0}:
                    place = builder.add(following, builder.add(builder.mul(i, number(LINE)), number(half * HALF)))
                    address = builder.bitcast(builder.gep(stored, [place]), byte)
                    builder.call(prefetch, [address, word(0), word(2), word(1)])  # to read data, second-level cache

            parts = 2 if rows == 1 else 1
            for halves in _AT_ONCE:
                sums, targets = [], []
                for row in range(rows):
                    place = builder.add(into, builder.mul(into_step, number(row)))
                    for half in halves:
                        targets.append(at(to, builder.add(place, number(half * HALF)), vector))
                        sums.append([cgutils.alloca_once(builder, vector) for _ in range(parts)])
                        for part, total in enumerate(sums[-1]):
                            builder.store(zeros if part else builder.load(targets[-1], align=4), total)
                with cgutils.for_range(builder, builder.lshr(count, number(1))) as loop:
                    for odd in (0, 1):
                        i = builder.add(builder.shl(loop.index, number(1)), number(odd))
                        numbers = line(builder.add(first, builder.mul(i, number(LINE))), halves)
                        if ahead:
                            ask_for(i, halves)
                        for row in range(rows):
                            place = builder.add(start, builder.mul(start_step, number(row)))
                            place = builder.add(place, builder.mul(i, step))
                            weight = builder.load(builder.gep(by, [place]))
                            lone = builder.insert_element(ir.Constant(vector, ir.Undefined), weight, word(0))
                            weight = builder.shuffle_vector(lone, lone, same)
                            for total, part in zip(sums[row * len(halves) :], numbers, strict=False):
                                now = total[odd % parts]
                                builder.store(builder.call(multiply_add, [weight, part, builder.load(now)]), now)
                for target, total in zip(targets, sums, strict=True):
                    found = [builder.load(part) for part in total]
                    builder.store(found[0] if parts == 1 else builder.fadd(*found), target, align=4)
            return context.get_dummy_value()

        place = types.int64
        return types.void(result, place, place, weights, place, place, place, place, lines, place, place), generate

    return add_weighted


_to_1_ahead, _to_2_ahead, _to_4_ahead = (_add_weighted_to(rows, ahead=True) for rows in (1, 2, 4))
_to_4 = _add_weighted_to(4, ahead=False)


@inlined
def add_weighted(result, into, into_step, weights, start, start_step, count, lines, first, following, rows):  # type: ignore[no-untyped-def]
    """See :func:`_add_weighted_to`; for any number of rows, with weights side by side, asking ahead."""
    row = 0
    while row < rows:
        to, by = into + row * into_step, start + row * start_step
        if rows - row >= 4:
            _to_4_ahead(result, to, into_step, weights, by, start_step, 1, count, lines, first, following)
            row += 4
        elif rows - row >= 2:
            _to_2_ahead(result, to, into_step, weights, by, start_step, 1, count, lines, first, following)
            row += 2
        else:
            _to_1_ahead(result, to, into_step, weights, by, start_step, 1, count, lines, first, following)
            row += 1


@inlined
def add_product(result, into, left, at_left, right, at_right):  # type: ignore[no-untyped-def]
    """Add the product of two tiles, LINE lines each, to a third one; arrays are taken as flat."""
    for row in range(0, LINE, 4):
        to, by = into + row * LINE, at_left + row * LINE
        _to_4(result, to, LINE, left, by, LINE, 1, LINE, right, at_right, at_right)


@inlined
def add_transposed_product(result, into, left, at_left, right, at_right):  # type: ignore[no-untyped-def]
    """The same of the transpose of ``left``."""
    for row in range(0, LINE, 4):
        to, by = into + row * LINE, at_left + row
        _to_4(result, to, LINE, left, by, 1, LINE, LINE, right, at_right, at_right)
