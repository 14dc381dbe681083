"""Tables as small files with the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from micromarket.workspace import write_atomically


def write_table(frame: pd.DataFrame, path: Path, unique: tuple[str, ...] = ()) -> Path:
    """Parquet with zstd: days as date32, ``unique`` columns delta-encoded, no trace of pandas or of the clock."""
    columns = {}
    for name, column in frame.items():
        if column.dtype.kind == "M":
            days = column.to_numpy().astype("datetime64[D]")
            columns[name] = pa.array(days, type=pa.date32(), mask=np.isnat(days))
        else:
            columns[name] = pa.array(column, from_pandas=True)
            if pa.types.is_large_string(columns[name].type):
                columns[name] = columns[name].cast(pa.string())
    table = pa.table(columns)
    encoding = dict.fromkeys(unique, "DELTA_BYTE_ARRAY")
    return write_atomically(
        path,
        lambda p: pq.write_table(
            table, p, compression="zstd", compression_level=12, write_statistics=False,
            use_dictionary=[c for c in table.column_names if c not in unique], column_encoding=encoding or None,
        ),
    )  # fmt: skip


def labels(codes: np.ndarray, names: list[str]) -> pd.arrays.ArrowStringArray:
    """Text by code, without a Python object a row; a negative code is empty."""
    mask = codes < 0
    array = pa.DictionaryArray.from_arrays(
        pa.array(np.where(mask, 0, codes), mask=mask), pa.array(names, type=pa.string())
    )
    return pd.array(array.cast(pa.string()), dtype="string[pyarrow]")


def numbered(prefix: str, count: int) -> pd.arrays.ArrowStringArray:
    """``prefix`` with 1 … count, padded so that text order is number order."""
    width = max(6, len(str(count)))
    return pd.array(
        pa.array(np.char.add(prefix, np.char.zfill(np.arange(1, count + 1).astype(str), width))),
        dtype="string[pyarrow]",
    )


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    text = frame.to_csv(index=False, lineterminator="\n")
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))
