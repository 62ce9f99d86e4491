"""Whole numbers and times in as few bytes as their range takes, which is less to compress, to send and to unpack."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.pandas_indexes import is_level

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["Narrow", "narrowed_bytes", "narrowing", "narrows"]

_MIN_ROWS = 1 << 10
_SAMPLE = 1 << 8
_KINDS = "iuMm"
_STEPS = (10**9, 10**6, 10**3)


class Narrow(NamedTuple):
    """
    How a column was made narrow: each value is ``lowest + stored * step``.

    :param step: Of times, which often are whole seconds in a unit of less.
    :param rising: What is stored is by how much each value is above the one before, as of ids and of times in order.
    """

    lowest: int
    step: int
    rising: bool

    @classmethod
    def of(cls, raw: Any, kind: str) -> Narrow:
        """
        Read what :func:`narrowing` found.

        :param kind: The type of the column in numpy.
        :raises WandbXComRefusedError: it is something else.
        """
        import numpy as np

        bounds = np.iinfo(np.dtype(kind) if kind.startswith(("int", "uint")) else np.int64)
        match raw:
            case [int(lowest), int(step), bool(rising)] if bounds.min <= lowest <= bounds.max:
                if step in (1, *_STEPS) and type(lowest) is type(step) is int:
                    return cls(lowest, step, rising)
        raise WandbXComRefusedError(f"Refused a stored pandas value: a column of {kind} begins at {raw!r}.")

    def widen(self, row: np.ndarray[Any, Any]) -> None:
        """Make the values of a column of what was stored, in their place."""
        import numpy as np

        numbers = row.view(np.int64) if row.dtype.kind in "Mm" else row
        if self.rising:
            np.cumsum(numbers, dtype=numbers.dtype, out=numbers)
        if self.step > 1:
            numbers *= self.step
        if self.lowest:
            numbers += numbers.dtype.type(self.lowest)


def narrowing(frame: pd.DataFrame, pool: Executor) -> dict[str, Future[tuple[pa.Array, Narrow] | None]]:
    """Begin to make the columns of a frame narrow that can be; the others become None."""
    import numpy as np

    if len(frame) < _MIN_ROWS:
        return {}
    names = [str(name) for name, dtype in frame.dtypes.items() if _is_wide(dtype)]
    return {name: pool.submit(_narrow, np.asarray(frame[name])) for name in names if not is_level(name)}


def narrows(kind: str, stored: pa.DataType) -> bool:
    """Say whether a column of a type may have been stored as one of another."""
    import numpy as np
    import pyarrow as pa

    dtype = np.dtype(kind)
    return (
        dtype.kind in _KINDS
        and pa.types.is_unsigned_integer(stored)
        and stored.bit_width < 8 * dtype.itemsize
    )


def narrowed_bytes(how: Mapping[str, Any], rows: int, types: Mapping[str, tuple[str, pa.DataType]]) -> int:
    """
    Return by how many bytes columns grow when they are read.

    :param types: Of each column, the one in numpy and that it is stored as.
    """
    import numpy as np

    return sum(
        rows * (np.dtype(kind).itemsize - stored.bit_width // 8)
        for name, (kind, stored) in types.items()
        if name in how
    )


def _is_wide(dtype: Any) -> bool:
    import numpy as np

    return isinstance(dtype, np.dtype) and dtype.kind in _KINDS and dtype.itemsize > 1


def _narrow(values: np.ndarray[Any, Any]) -> tuple[pa.Array, Narrow] | None:
    import numpy as np
    import pyarrow as pa

    numbers = values.view(np.int64) if values.dtype.kind in "Mm" else values
    lowest, highest = int(numbers.min()), int(numbers.max())
    if highest - lowest >= 1 << 63:
        return None
    step = _step(numbers, lowest) if values.dtype.kind in "Mm" else 1
    # Differences of signed numbers may be more than these can hold; without a sign they are right.
    offsets = (numbers - numbers.dtype.type(lowest)).view(f"u{numbers.dtype.itemsize}")
    if step > 1:
        offsets //= step
    few = numbers[:_SAMPLE]
    rising = bool((few[:-1] <= few[1:]).all() and (numbers[:-1] <= numbers[1:]).all())
    if rising:
        offsets[1:] -= offsets[:-1].copy()
    kind = np.min_scalar_type(int(offsets.max()))
    if kind.itemsize >= values.dtype.itemsize:
        return None
    return pa.array(offsets.astype(kind)), Narrow(lowest, step, rising)


def _step(numbers: np.ndarray[Any, Any], lowest: int) -> int:
    """Return what all differences are multiples of."""
    for step in _STEPS:
        if not ((numbers[:_SAMPLE] - lowest) % step).any() and not ((numbers - lowest) % step).any():
            return step
    return 1
