"""What kernels on a CPU share: functions that numba compiles, and bfloat16, which numpy lacks.

Importing it needs numba, which has no wheel for every Python and system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedse.errors import ConfigError
from fedse.storage import cache_folder

_LOG2_E = np.float32(1.4426950408889634)
#: Adding it to a float32 below 2**22 leaves the nearest whole number in the low bits.
_ROUND = np.float32(1.5 * 2**23)

#: Multiply-adds may be fused; sums keep their order.
_OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
inlined = numba.njit(inline="always", **_OPTIONS)


@cache
def _inlined_code() -> bytes:
    """The source of all that kernels inline."""
    return b"".join(Path(__file__).with_name(name).read_bytes() for name in ("compiled.py", "lines.py"))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call; the machine code is kept in fedse's cache folder, where that can be written.

    numba compiles anew what was changed in the function's own file, but does not see those of what is inlined into it.
    """
    result: Callable[..., Any]
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(cache_folder() / "numba" / hashlib.sha256(_inlined_code()).hexdigest()[:12])
        result = numba.njit(cache=True, **_OPTIONS)(function)
    except (ConfigError, OSError, RuntimeError):  # numba raises the last where it finds no folder to write to
        result = numba.njit(**_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before
    return result


@intrinsic  # type: ignore[untyped-decorator]
def float_of(_: Any, _bits: Any) -> Any:
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda _, builder, __, given: builder.bitcast(given[0], ir.FloatType())


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(_: Any, _number: Any) -> Any:
    """The 32 bits of a float32."""
    return types.int32(types.float32), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(32))


@intrinsic  # type: ignore[untyped-decorator]
def widen(_: Any, stored: Any) -> Any:
    """A stored number as float32: an int16 holds the bits of a bfloat16, which are the upper half."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        if stored != types.int16:
            return given[0]
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(given[0], word), word(16)), ir.FloatType())

    return types.float32(stored), generate


@intrinsic  # type: ignore[untyped-decorator]
def narrow(_: Any, _number: Any, like: Any) -> Any:
    """A float32 as it is stored beside ``like``; to bfloat16 it is rounded to nearest, ties to even."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        if like != types.int16:
            return given[0]
        word = ir.IntType(32)
        bits = builder.bitcast(given[0], word)
        odd = builder.and_(builder.lshr(bits, word(16)), word(1))
        rounded = builder.add(bits, builder.add(odd, word(0x7FFF)))
        return builder.trunc(builder.lshr(rounded, word(16)), ir.IntType(16))

    return like(types.float32, like), generate


@inlined
def exponential(number):  # type: ignore[no-untyped-def]
    """Exp of a float32 that is not above 0; what is below 2**-64 is 0.

    Beside 1 it is nothing, and products of it would be denormal, which some processors take a hundred cycles for.
    2**n times a polynomial of degree six in the rest of the exponent (Taylor's, for |rest| ≤ 1/2: relative error below
    2e-7, and what rounding the number leaves).
    """
    exponent = number * _LOG2_E
    something = exponent > np.float32(-64)
    exponent = exponent if something else np.float32(-64)
    whole = exponent + _ROUND
    rest = exponent - (whole - _ROUND)
    power = np.float32(1.5403530393381609e-4)
    power = power * rest + np.float32(1.3333558146428443e-3)
    power = power * rest + np.float32(9.6181291076284772e-3)
    power = power * rest + np.float32(5.5504108664821580e-2)
    power = power * rest + np.float32(2.4022650695910071e-1)
    power = power * rest + np.float32(6.9314718055994531e-1)
    power = power * rest + np.float32(1)
    return float_of(bits_of(power) + (bits_of(whole) << np.int32(23))) if something else np.float32(0)


def array(states: torch.Tensor) -> Any:
    """The numbers as the kernel takes them; bfloat16, which numpy lacks, as its bits."""
    return (states.view(torch.int16) if states.dtype == torch.bfloat16 else states).detach().numpy()
