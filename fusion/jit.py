"""The one typed door to numba: functions keep their signatures, divisions follow IEEE, and the machine code is cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange
MAX_THREADS: int = numba.get_num_threads()  # at import: what numba was started with


def compiled(function: F) -> F:
    """Compile on first call; called from other compiled functions it is inlined where that pays."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def fast(function: F) -> F:
    """As `compiled`, where sums may be reassociated and fused: loops become vector instructions."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})(function))


def parallel(function: F) -> F:
    """As `compiled`, with `prange` loops spread over the threads."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)(function))


class threads:
    """Use so many threads inside the `with`, at most as many as numba was started with; None changes nothing."""

    def __init__(self, n: int | None) -> None:
        self.n = n

    def __enter__(self) -> None:
        self.before = numba.get_num_threads()
        if self.n is not None:
            numba.set_num_threads(max(1, min(self.n, MAX_THREADS)))

    def __exit__(self, *args: object) -> None:
        numba.set_num_threads(self.before)
