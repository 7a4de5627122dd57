"""`run`: from files to vectors, as the command does it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, Union

from encaje import _program
from encaje._vectors import Vectors
from encaje._vectors import open as open_vectors

Path = Union[str, "os.PathLike[str]"]


def run(
    corpus: Path | Iterable[Path],
    *,
    model: Path,
    out: Path,
    text_column: str | None = None,
    id_column: str | None = None,
    keep: str | Iterable[str] | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    quote: str | None = None,
    encoding: str | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    pooling: Literal["auto", "cls", "mean", "max", "last"] | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    prefix: str | None = None,
    dimensions: int | None = None,
    dtype: Literal["auto", "f32", "f16", "bf16", "int8"] | None = None,
    output_dtype: Literal["f32", "f16", "int8", "binary"] | None = None,
    on_bad_row: Literal["reject", "fail"] | None = None,
    max_rejects: int | str | None = None,
    batch_tokens: int | None = None,
    shard_rows: int | None = None,
    reuse: Path | Iterable[Path] | None = None,
    device: str | None = None,
    threads: int | None = None,
    config: Path | None = None,
    progress: bool | None = None,
    quiet: bool = False,
) -> Vectors:
    """Embed a corpus of files into a folder of Parquet files, or one file; the same call again resumes or returns it.

    It is the same job as that of ``encaje run``, in a process of its own: each input row becomes one output row, with a vector
    or with the reason why it has none. When this process is killed, that one stops, and what is done stays.

    Parameters
    ----------
    corpus : path, URL, or several
        Files, globs or URLs, embedded in this order.
    model : str
        A Hub id such as ``owner/name``, or the folder of a model.
    out : path
        A folder, or a file that ends in ``.parquet``.
    reuse : path, or several, optional
        Earlier outputs: texts that they have take their vectors from there, bit for bit, and are not embedded.
    normalize : bool, optional
        False leaves vectors as long as the model makes them, instead of scaling each to length 1.
    progress : bool, optional
        Shows a bar; by default in notebooks and terminals.
    quiet : bool
        Shows neither bar nor notes, but warnings.

    The other parameters are options of the command; ``encaje run --help`` explains them. What is None is as the environment
    (``ENCAJE_TEXT_COLUMN``) and ``encaje.toml`` say, or else the command's default.

    Returns
    -------
    Vectors
        The output.

    Raises
    ------
    CorpusError, ModelError, UsageError, Error
        With the sentences of the command.
    KeyboardInterrupt
        Interrupted; the work so far is kept.

    Examples
    --------
    >>> vectors = encaje.run("tweets.csv", model=MODEL, out="tweets/", quiet=True)
    >>> len(vectors), vectors.numpy().shape
    (4, (4, 32))
    """
    settings = _program.options(
        model=model,
        out=out,
        text_column=text_column,
        id_column=id_column,
        keep=keep,
        format=format,
        delimiter=delimiter,
        quote=quote,
        encoding=encoding,
        revision=revision,
        pooling=pooling,
        max_length=max_length,
        prompt=prompt,
        prefix=prefix,
        dimensions=dimensions,
        dtype=dtype,
        output_dtype=output_dtype,
        on_bad_row=on_bad_row,
        max_rejects=max_rejects,
        batch_tokens=batch_tokens,
        shard_rows=shard_rows,
        reuse=reuse,
        device=device,
        threads=threads,
        config=config,
    )
    flags, environment = _program.switches(
        offline=offline, no_normalize=None if normalize is None else not normalize
    )
    _program.call(
        "run",
        *settings,
        *flags,
        targets=_program.paths(corpus),
        environment=environment,
        progress=False if quiet else progress,
        notes=not quiet,
    )
    return open_vectors(out)
