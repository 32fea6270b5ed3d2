"""Small sorts for the kernels: runs of 16 by insertion, then stable merges; segments of a log are short."""

from __future__ import annotations

from core.arrays import AnyArray, Ints
from fusion.jit import compiled

_RUN = 16


@compiled
def sort(keys: Ints, spare: Ints) -> None:
    """Sort `[n]` integers in place; `spare` `[>= n]` is scratch."""
    n, run = len(keys), _RUN
    for low in range(0, n, run):
        for i in range(low + 1, min(low + run, n)):
            key, j = keys[i], i - 1
            while j >= low and keys[j] > key:
                keys[j + 1] = keys[j]
                j -= 1
            keys[j + 1] = key
    while run < n:
        for low in range(0, n - run, 2 * run):
            mid, high = low + run, min(low + 2 * run, n)
            if keys[mid - 1] <= keys[mid]:
                continue
            for i in range(low, mid):
                spare[i] = keys[i]
            i, j = low, mid
            for k in range(low, high):
                if i >= mid:
                    break
                if j >= high or spare[i] <= keys[j]:
                    keys[k] = spare[i]
                    i += 1
                else:
                    keys[k] = keys[j]
                    j += 1
        run *= 2


@compiled
def argsort(values: AnyArray, order: Ints, spare: Ints) -> None:
    """The rows of `values` `[n]` from the smallest, ties in their first order, into `order`; `spare` `[>= n]` is scratch."""
    n, run = len(values), _RUN
    for i in range(n):
        order[i] = i
    for low in range(0, n, run):
        for i in range(low + 1, min(low + run, n)):
            row, j = order[i], i - 1
            while j >= low and values[order[j]] > values[row]:
                order[j + 1] = order[j]
                j -= 1
            order[j + 1] = row
    while run < n:
        for low in range(0, n - run, 2 * run):
            mid, high = low + run, min(low + 2 * run, n)
            for i in range(low, mid):
                spare[i] = order[i]
            i, j = low, mid
            for k in range(low, high):
                if i >= mid:
                    break
                if j >= high or values[spare[i]] <= values[order[j]]:
                    order[k] = spare[i]
                    i += 1
                else:
                    order[k] = order[j]
                    j += 1
        run *= 2
