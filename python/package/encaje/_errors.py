"""Exceptions: the program's error messages, typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Error(Exception):
    """Something that the program says in an error message.

    Attributes
    ----------
    message : str
        What went wrong.
    hints : tuple of str
        What to do about it, if the program knows.
    """

    #: What the command printed before, for the package itself.
    output: Any = None

    def __init__(self, message: str, hints: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(hints))
        self.message = message
        self.hints = tuple(hints)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"hint: {hint}" for hint in self.hints)])


class UsageError(Error, ValueError):
    """An argument is wrong, or conflicts with existing files."""


class ModelError(Error):
    """A model cannot be found, downloaded, loaded or used."""


class CorpusError(Error):
    """A corpus or storage cannot be read or written."""


class VectorsError(Error):
    """Vector files are damaged, or are none.

    Attributes
    ----------
    report : dict or None
        What `Vectors.verify` found.
    """

    report: dict[str, Any] | None = None


class ClusterError(Error):
    """A coordinator refused a call, or none answered."""


class InvalidTextError(Error, ValueError):
    """A text has no vector.

    Attributes
    ----------
    index : int
        The position of the first such text, from 0.
    reason : str
        Its reason code, as in the column ``error`` of vector files: ``null_text``, ``empty_text``, ...
    """

    def __init__(self, index: int, reason: str) -> None:
        message = f"the text at index {index} cannot be embedded: {reason}"
        super().__init__(message, ["errors='null' gives such texts a vector of NaN"])
        self.index = index
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.index, self.reason)


BY_KIND: dict[str, type[Error]] = {
    "usage": UsageError,
    "model": ModelError,
    "corpus": CorpusError,
    "vectors": VectorsError,
    "cluster": ClusterError,
    "other": Error,
}
