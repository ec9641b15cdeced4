"""What a file in numpy's format says that it holds, without believing it."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

_MOST_BYTES = 1 << 16
"""A header that is longer is refused; numpy's own are of some hundred bytes."""
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the header of an .npy, from its beginning; whatever it says takes no memory.

    Returns:
        Shape, none of it negative; whether the numbers stand column by column; dtype; and the
        number of bytes before the first of them.

    Raises:
        ValueError: If there is none, or it is of Python objects.
    """
    head = io.BytesIO(file.read(_MOST_BYTES))
    version = npy.read_magic(head)
    if version not in _READERS:
        raise ValueError(f"version {version} of numpy's format is not for plain numbers")
    try:
        shape, fortran_order, dtype = _READERS[version](head)
    except ValueError:
        raise
    except Exception as error:  # it is tokenised and evaluated: TokenError, SyntaxError, …
        raise ValueError(f"its header cannot be parsed ({error})") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    if dtype.hasobject:
        raise ValueError("it holds objects, which are never unpickled")
    return tuple(shape), bool(fortran_order), dtype, head.tell()
