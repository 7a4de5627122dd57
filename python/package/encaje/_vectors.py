"""The output of a job: vectors with their rows."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path as LocalPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

from encaje import _errors, _program
from encaje._encaje import VectorSet
from encaje._optional import needed

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

    from encaje._maps import Map

Path = Union[str, "os.PathLike[str]"]


class Rejected(NamedTuple):
    """A row without a vector."""

    row: int
    reason: str


def open(target: Path) -> Vectors:
    """Open the output of a finished job.

    Parameters
    ----------
    target : path or URL
        A folder with a ``manifest.json``, or a Parquet file of vectors: on this machine, in a bucket (``s3://``, ``gs://``,
        ``az://``, with credentials from the environment) or on a web server.

    Returns
    -------
    Vectors

    Raises
    ------
    VectorsError
        It is damaged, or not finished, or something else.
    """
    return Vectors(target)


class Vectors:
    """The vectors of a corpus, one row per input row, in order: what `run` returns and `open` opens.

    Rows are read on demand, and the bytes of each file are checked first. Anything that takes a table by Arrow's
    C stream interface takes this: ``polars.DataFrame(vectors)``, ``pyarrow.table(vectors)``, DuckDB, pandas.
    """

    def __init__(self, target: Path) -> None:
        text = os.fspath(target)
        # Where it is, whatever the current directory is later.
        self.path: str | LocalPath = text if "://" in text else LocalPath(os.path.abspath(text))
        self._set = VectorSet(self.path)

    def __len__(self) -> int:
        """Return the number of rows, rejected ones included."""
        return len(self._set)

    def __repr__(self) -> str:
        rejected = self.counts["rejects"]
        lost = f", {sum(rejected.values()):,} rejected" if rejected else ""
        dimensions = self.info["dimensions"]
        return f"<encaje.Vectors '{self.path}': {len(self):,} rows{lost}, {dimensions} dimensions, {self.model}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Vectors, (self.path,)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give all rows as an Arrow stream. ``requested_schema`` is ignored, as the interface allows."""
        return self._set.stream()

    @property
    def info(self) -> dict[str, Any]:
        """How the vectors were made: model, revision, pooling, dtype, dimensions, ..."""
        return dict(json.loads(self._set.info))

    @property
    def counts(self) -> dict[str, Any]:
        """Counts: rows, rejects by reason, truncated, tokens."""
        return dict(json.loads(self._set.totals))

    @property
    def model(self) -> str:
        """The Hub id or folder of the model."""
        return str(self.info["model"])

    @property
    def rejected(self) -> list[Rejected]:
        """The rows without a vector, each with its reason code. Needs pyarrow."""
        if not self.counts["rejects"]:
            return []
        table = self.table(["row", "error"])
        mask = table["error"].is_valid()
        kept = table.filter(mask)
        return [Rejected(row, reason) for row, reason in zip(kept["row"].to_pylist(), kept["error"].to_pylist())]

    def numpy(self) -> numpy.ndarray[Any, numpy.dtype[numpy.float32]]:
        """Return the vectors as floats.

        Returns
        -------
        ndarray of float32, [rows, dimensions]
            NaN in the rows without a vector. Vectors stored as ``f16``, ``int8`` or ``binary`` are converted.
        """
        return self._set.numpy()

    def batches(self, columns: Iterable[str] | None = None) -> pyarrow.RecordBatchReader:
        """Stream the rows, all or some columns, without holding them all. Needs pyarrow.

        Returns
        -------
        pyarrow.RecordBatchReader
        """
        pyarrow = needed("pyarrow", "Vectors.batches")
        return pyarrow.RecordBatchReader.from_stream(_Stream(self._set, columns))

    def table(self, columns: Iterable[str] | None = None) -> pyarrow.Table:
        """Read the rows, all or some columns, as an Arrow table. Needs pyarrow.

        Returns
        -------
        pyarrow.Table
        """
        with _as_vectors_error("pyarrow", "ArrowInvalid"):
            return self.batches(columns).read_all()

    def pandas(self, columns: Iterable[str] | None = None) -> pandas.DataFrame:
        """Read the rows as a DataFrame of pandas; each vector is a NumPy array. Needs pandas and pyarrow."""
        needed("pandas", "Vectors.pandas")
        return self.table(columns).to_pandas()

    def polars(self, columns: Iterable[str] | None = None) -> polars.DataFrame:
        """Read the rows as a DataFrame of Polars, without copies. Needs polars."""
        polars = needed("polars", "Vectors.polars")
        with _as_vectors_error("polars.exceptions", "ComputeError"):
            return polars.DataFrame(_Stream(self._set, columns))

    def verify(
        self,
        corpus: Path | Iterable[Path] | None = None,
        *,
        reuse: bool | Path | Iterable[Path] = False,
        progress: bool | None = None,
    ) -> dict[str, Any]:
        """Check every promise about the output: rows, checksums, norms, and the corpus if it is given.

        With ``reuse``, also that vectors are those of the earlier outputs that ``run(..., reuse=)`` was given: True where they
        are still in their places, or the places that they were moved to.

        Returns
        -------
        dict
            What was checked.

        Raises
        ------
        VectorsError
            A promise is broken; its ``report`` says which.
        """
        against = [] if corpus is None else [f"--corpus={one}" for one in _program.paths(corpus)]
        try:
            against += _program.options(reuse=reuse)
            report, _ = _program.call("verify", *against, targets=[str(self.path)], progress=progress)
        except _errors.Error as error:
            report = getattr(error, "output", None)
            if not isinstance(report, dict) or report.get("passed", True):
                raise
            first = "; ".join(_sentence(problem) for problem in report["problems"][:5])
            broken = _errors.VectorsError(f"`{self.path}` does not hold what it promises: {first}")
            broken.report = report
            raise broken from None
        return dict(report)

    def merge(self, out: Path, *, force: bool = False, progress: bool | None = None) -> Vectors:
        """Write all rows into one Parquet file.

        Returns
        -------
        Vectors
            The new file.
        """
        options = _program.options(out=out, force=bool(force))
        _program.call("merge", *options, targets=[str(self.path)], progress=progress)
        return Vectors(out)

    def export(
        self,
        out: Path,
        *,
        format: Literal["npy", "safetensors", "pt"] | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Write the vectors as one array for other programs. The format is that of the extension unless it is given.

        Returns
        -------
        dict
            What was written.
        """
        if format is None:
            format = LocalPath(out).suffix.lstrip(".").lower()  # type: ignore[assignment]
        options = _program.options(out=out, format=format, force=force)
        summary, _ = _program.call("export", *options, targets=[str(self.path)])
        return dict(summary)

    def project(
        self,
        label: str | None = None,
        *,
        label_type: Literal["auto", "category", "number"] | None = None,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        metric: Literal["cosine", "euclidean"] = "cosine",
        n_epochs: int | None = None,
        seed: int = 42,
        progress: bool | None = None,
    ) -> Map:
        """Project the vectors to the plane by UMAP, coloured by a kept column.

        The same vectors, parameters and seed give the same map.

        Returns
        -------
        Map
            Shows itself in notebooks.
        """
        from encaje._maps import project

        return project(
            self.path,
            label=label,
            label_type=label_type,
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            metric=metric,
            n_epochs=n_epochs,
            seed=seed,
            progress=progress,
        )


@contextlib.contextmanager
def _as_vectors_error(module: str, name: str) -> Iterator[None]:
    """Raise the error that a reader of the stream makes of ours as what it was."""
    try:
        yield
    except getattr(importlib.import_module(module), name) as error:
        raise _errors.VectorsError(str(error)) from None


def _sentence(problem: dict[str, Any]) -> str:
    places = [str(problem["file"])] if problem["file"] is not None else []
    if problem["row"] is not None:
        places.append(f"row {problem['row']}")
    return ": ".join([*places, problem["detail"]])


class _Stream:
    """Some columns of a set, as an Arrow stream."""

    def __init__(self, rows: VectorSet, columns: Iterable[str] | None) -> None:
        self._rows = rows
        self._columns = None if columns is None else list(columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.stream(self._columns)
