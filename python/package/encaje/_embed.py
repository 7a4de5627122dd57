"""A model inside the engines that people already run: Ray Data, Spark, Daft, Dask, datasets."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

import numpy as np

from encaje._errors import UsageError
from encaje._model import Model
from encaje._optional import needed

Path = Union[str, "os.PathLike[str]"]

# The models of this process, by what they were made of: a worker loads each once, whatever the number of its tasks.
_MODELS: dict[tuple[Any, ...], Model] = {}
_LOADING = threading.Lock()


class Embed:
    """A function from batches to batches with a column of vectors more, which can be pickled and sent to other processes.

    It loads its model once per process, when it is first called. Batches are tables of pyarrow, DataFrames of pandas, dicts of
    arrays or lists; each comes back as what it was. Of an iterator of Arrow batches, as Spark's ``mapInArrow`` has it, it makes
    another, with vectors as lists of any length, since Spark knows no others. (In ``datasets`` with the format ``numpy``, a first
    batch without errors gives their column no type: choose another format, or give ``map`` the features.)

    Parameters
    ----------
    model : str
        A Hub id, or a folder that every process can read.
    column : str
        The column with the texts.
    output : str
        The name of the new column: a list of float32 per row, of a fixed length.
    error : str
        The name of the new column with the reason codes of rows without a vector. Their vector is null in Arrow and Polars,
        and NaN in arrays of NumPy.
    encode : dict, optional
        Of the arguments of `Model.encode`: ``prompt_name``, ``prompt``, ``normalize_embeddings``, ``truncate_dim``.
    options
        Those of `Model`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> embed = encaje.Embed(MODEL, column="text")
    >>> embed(pa.table({"text": ["Tengo un perro.", None]})).column_names
    ['text', 'embedding', 'error']
    """

    def __init__(
        self,
        model: Path,
        column: str = "text",
        *,
        output: str = "embedding",
        error: str = "error",
        encode: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.column = column
        self.output = output
        self.error = error
        self._encode = dict(encode or {})
        _check("encode", self._encode, {"prompt_name", "prompt", "normalize_embeddings", "truncate_dim"})
        _check("Embed", options, set(inspect.signature(Model).parameters) - {"model", "progress"})
        # Where it is, whatever the current directory of another process is.
        name = os.path.abspath(model) if os.path.isdir(model) else os.fspath(model)
        self._model = (name, tuple(sorted(options.items())))

    @property
    def model(self) -> Model:
        """The model, loaded in this process."""
        with _LOADING:
            if self._model not in _MODELS:
                name, options = self._model
                _MODELS[self._model] = Model(name, **dict(options), progress=False)
            return _MODELS[self._model]

    def __call__(self, batch: Any) -> Any:
        """Return the batch with two columns more.

        Raises
        ------
        UsageError
            The batch has a column of one of these names already.
        """
        package = type(batch).__module__.partition(".")[0]
        if isinstance(batch, Iterator):
            return map(self._of_stream, batch)
        if package == "pyarrow":
            return self._arrow(batch)
        if package not in ("pandas", "polars") and not isinstance(batch, Mapping):
            kind = type(batch).__name__
            raise TypeError(f"Embed takes tables of pyarrow, DataFrames of pandas or Polars, and dicts, not {kind}")
        self._refuse(batch.keys() if isinstance(batch, Mapping) else batch.columns)
        texts = batch[self.column]
        if isinstance(batch, Mapping) and (texts is None or isinstance(texts, str)):
            # A row, not a batch.
            vectors, errors = self.vectors([texts])
            return {**batch, self.output: vectors[0], self.error: errors[0]}
        if package == "datasets":
            # A dict of lists has no types: without errors in the first batches, there could be none later.
            return self._arrow(batch.pa_table)
        vectors, errors = self.vectors(texts)
        if package == "pandas":
            strings = needed("pandas", "Embed").array(errors, dtype="string")
            return batch.assign(**{self.output: list(vectors), self.error: strings})
        if package == "polars":
            polars = needed("polars", "Embed")
            lists = polars.from_arrow(_list_array(vectors, errors)).alias(self.output)
            return batch.with_columns(lists, polars.Series(self.error, errors, dtype=polars.String))
        reasons: Any = np.array(errors, dtype=object) if isinstance(texts, np.ndarray) else errors
        return {**batch, self.output: vectors, self.error: reasons}

    def _of_stream(self, batch: Any) -> Any:
        is_arrow = type(batch).__module__.partition(".")[0] == "pyarrow"
        return self._arrow(batch, is_fixed=False) if is_arrow else self(batch)

    def _refuse(self, columns: Iterable[str]) -> None:
        for name in {self.output, self.error} & set(columns):
            hint = "output='…' and error='…' choose other names"
            raise UsageError(f"there is a column `{name}` already", [hint])

    def vectors(self, texts: Any) -> tuple[np.ndarray[Any, np.dtype[np.float32]], list[str | None]]:
        """Embed a column.

        Returns
        -------
        (ndarray of float32 [rows, dimensions], list of str or None)
            NaN, and a reason code, where a row has no vector.
        """
        return self.model._encode_with_reasons(texts, **self._encode)

    def schema(self, schema: Any) -> Any:
        """Return the Arrow schema of the batches that come of batches with this one."""
        pyarrow = needed("pyarrow", "Embed.schema")
        vector = pyarrow.list_(pyarrow.float32(), self._encode.get("truncate_dim") or self.model.dimensions)
        return schema.append(pyarrow.field(self.output, vector)).append(pyarrow.field(self.error, pyarrow.string()))

    def _arrow(self, batch: Any, is_fixed: bool = True) -> Any:
        pyarrow = needed("pyarrow", "Embed")
        self._refuse(batch.schema.names)
        vectors, errors = self.vectors(batch.column(self.column))
        lists, schema = _list_array(vectors, errors), self.schema(batch.schema)
        if not is_fixed:
            lists = lists.cast(pyarrow.list_(pyarrow.float32()))
            schema = schema.set(len(batch.schema), pyarrow.field(self.output, lists.type))
        columns = [*batch.columns, lists, pyarrow.array(errors, pyarrow.string())]
        return type(batch).from_arrays(columns, schema=schema)


def _list_array(vectors: Any, errors: list[str | None]) -> Any:
    """Make an array of lists of a fixed size, null where there is an error."""
    pyarrow = needed("pyarrow", "Embed")
    numbers = pyarrow.array(vectors.reshape(-1))
    mask = pyarrow.array([error is not None for error in errors], pyarrow.bool_()) if any(errors) else None
    return pyarrow.FixedSizeListArray.from_arrays(numbers, vectors.shape[1], mask=mask)


def _check(what: str, given: Mapping[str, Any], known: set[str]) -> None:
    for name in given.keys() - known:
        raise UsageError(f"{what}: there is no option {name!r}", [f"there are {', '.join(sorted(known))}"])
