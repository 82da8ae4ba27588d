"""Rows of numbers for every training text on disk: appended batch by batch, so that a kill loses a batch at most."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.objective import Batch
from ridgeline_export.compress.recover.tokens import Tokens, sorted_batches
from ridgeline_export.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

_DESCRIPTION = "cache.json"
_BATCH_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Row:
    """values: in a row; is_by_token: a row a token, else a row a text; is_exact: fp32, else bf16."""

    values: int
    is_by_token: bool
    is_exact: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy has no bf16: its bits are kept."""
        return np.dtype("<f4") if self.is_exact else np.dtype("<i2")


@dataclass
class TeacherCache:
    """Named arrays of rows, a .npy file each, in the order of sorted_batches.

    directory: for all caches of a run; a cache with another key is removed
    key:       digest of everything that the numbers depend on
    lengths:   int64 [texts], tokens of each
    """

    directory: Path
    key: str
    rows: dict[str, Row]
    lengths: NDArray[np.int64]
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        order = np.concatenate(list(sorted_batches(self.lengths, _BATCH_TEXTS)))
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))
        # The first token's row of the text at each place.
        self._starts = np.concatenate([[0], np.cumsum(self.lengths[order])])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_arrays": {}}  # other processes map the files themselves

    @property
    def path(self) -> Path:
        return self.directory / f"teacher-{self.key[:16]}"

    @property
    def size_bytes(self) -> int:
        """Of all files when they are whole."""
        return sum(self._rows_after(row, len(self.lengths)) * row.values * row.dtype.itemsize for row in self._all)

    def fill(self, tokens: Tokens, answer: Callable[[Batch], Mapping[str, Tensor]], progress: Progress) -> None:
        """Compute what is not there yet.

        answer: a batch → tensors by name, [batch, values] or [batch, sequence, values]
        Raises TrainingError when a number is not finite.
        """
        self._claim()
        batches = list(sorted_batches(self.lengths, _BATCH_TEXTS))
        done = self._batches_done([len(batch) for batch in batches])
        if done == len(batches):
            return
        with progress.stage(f"The teacher answers {len(self.lengths)} texts"):
            files = {name: self._open(name, sum(map(len, batches[:done]))) for name in self.rows}
            try:
                for chosen in batches[done:]:
                    batch = tokens.batch(chosen)
                    found = answer(batch)
                    for name, row in self.rows.items():
                        _write(files[name], _cut(found[name], row, batch), row)
            finally:
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()

    def read(self, name: str, indices: NDArray[np.int64], length: int) -> Tensor:
        """Rows of some texts: [texts, values], or [texts, length, values] padded with zeros; fp32 or bf16.

        indices: int64 [texts], places in the training set
        """
        import torch

        row = self.rows[name]
        array, places = self._array(name), self._place[indices]
        if not row.is_by_token:
            found = array[places]
        else:
            found = np.zeros((len(places), length, row.values), row.dtype)
            for at, place in enumerate(places):
                first, last = self._starts[place], self._starts[place + 1]
                found[at, : last - first] = array[first:last]
        tensor = torch.from_numpy(np.ascontiguousarray(found))
        return tensor if row.is_exact else tensor.view(torch.bfloat16)

    @property
    def _all(self) -> tuple[Row, ...]:
        return tuple(self.rows.values())

    def _rows_after(self, row: Row, texts: int) -> int:
        return int(self._starts[texts]) if row.is_by_token else texts

    def _claim(self) -> None:
        """A directory with this key; what is of another key is stale and goes."""
        wanted = {"key": self.key, "rows": {name: asdict(row) for name, row in self.rows.items()}}
        for path in self.directory.glob("teacher-*"):
            if path != self.path or _read(path / _DESCRIPTION) != wanted:
                shutil.rmtree(path)
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"{_DESCRIPTION}.partial"
        partial.write_text(json.dumps(wanted), encoding="utf-8")
        os.replace(partial, self.path / _DESCRIPTION)

    def _batches_done(self, sizes: list[int]) -> int:
        """How many batches are whole in every file, told by the files' sizes."""
        for done in range(len(sizes), 0, -1):
            texts = sum(sizes[:done])
            if all(self._size(name) >= self._end(name, texts) for name in self.rows):
                return done
        return 0

    def _size(self, name: str) -> int:
        path = self.path / f"{name}.npy"
        return path.stat().st_size if path.is_file() else 0

    def _end(self, name: str, texts: int) -> int:
        row = self.rows[name]
        return len(self._header(row)) + self._rows_after(row, texts) * row.values * row.dtype.itemsize

    def _header(self, row: Row) -> bytes:
        from io import BytesIO

        buffer = BytesIO()
        shape = (self._rows_after(row, len(self.lengths)), row.values)
        np.lib.format.write_array_header_2_0(buffer, {"descr": row.dtype.str, "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    def _open(self, name: str, texts: int) -> BinaryIO:
        """The file, cut behind the last whole batch. Written, not mapped: a full disk is an error, not a signal."""
        path = self.path / f"{name}.npy"
        if texts == 0:
            path.write_bytes(self._header(self.rows[name]))
        os.truncate(path, self._end(name, texts))
        return open(path, "ab", buffering=0)

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            self._arrays[name] = np.load(self.path / f"{name}.npy", mmap_mode="r")
        return self._arrays[name]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _cut(found: Tensor, row: Row, batch: Batch) -> Tensor:
    """The rows of real tokens, or of texts, on the CPU in the type that is kept."""
    import torch

    if row.is_by_token:
        found = found[batch.inputs["attention_mask"].bool().to(found.device)]
    if not found.isfinite().all():
        raise TrainingError(
            "the teacher's outputs are not finite for some training texts; give --precision fp32, and check the model"
        )
    return found.to("cpu", torch.float32 if row.is_exact else torch.bfloat16).contiguous()


def _write(file: BinaryIO, rows: Tensor, row: Row) -> None:
    import torch

    left = memoryview((rows if row.is_exact else rows.view(torch.int16)).numpy().tobytes())
    while left:
        left = left[file.write(left) :]
