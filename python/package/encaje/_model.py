"""A model in memory: texts in, arrays out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encaje import _encaje, _errors, _program
from encaje._optional import needed
from encaje._progress import bar

Path = Union[str, "os.PathLike[str]"]

# Texts that go to the engine together: enough that all cores are busy, few enough that their tokens need little memory.
_CHUNK_TEXTS = 16_384
_CHUNK_CHARACTERS = 16_000_000


class Model:
    """An encoder: tokenizer, weights and pooling.

    Parameters
    ----------
    model : str
        A Hub id such as ``owner/name``, or the folder of a model.
    revision : str, optional
        A branch, tag or commit of a Hub model.
    pooling : {"auto", "cls", "mean", "max", "last"}
        ``auto`` is the model's own pooling, or ``cls`` where it names none.
    dtype : {"auto", "f32", "f16", "bf16", "int8"}
        The number format of the computation; ``auto`` is ``f32`` on a CPU and ``f16`` on a GPU.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        ``auto`` is the first GPU that can be used, else the CPU.
    max_length : int, optional
        Cuts texts to so many tokens; by default to what the model takes.
    dimensions : int, optional
        Keeps the first components alone (Matryoshka).
    threads : int, optional
        Uses so many threads on a CPU; by default one per core. 1 is right where as many processes as cores work side by side.
    offline : bool
        Uses only models that were downloaded before.
    progress : bool, optional
        Shows the download; by default in notebooks and terminals.

    Raises
    ------
    ModelError
        It cannot be found, downloaded or used. The message says why.
    UsageError
        An option is wrong.

    Examples
    --------
    >>> model = encaje.Model(MODEL)
    >>> vectors = model.encode(["Hoy vamos a comer unos tacos.", "Me toca ir al gimnasio."])
    >>> vectors.shape, vectors.dtype
    ((2, 32), dtype('float32'))
    """

    def __init__(
        self,
        model: Path,
        *,
        revision: str | None = None,
        pooling: Literal["auto", "cls", "mean", "max", "last"] = "auto",
        dtype: Literal["auto", "f32", "f16", "bf16", "int8"] = "auto",
        device: str = "auto",
        max_length: int | None = None,
        dimensions: int | None = None,
        threads: int | None = None,
        offline: bool = False,
        progress: bool | None = None,
    ) -> None:
        self.name = os.fspath(model)
        _sizes(max_length=max_length, dimensions=dimensions, threads=threads)
        self._options = {
            "revision": revision,
            "pooling": pooling,
            "dtype": dtype,
            "device": device,
            "max_length": max_length,
            "dimensions": dimensions,
            "threads": threads,
            "offline": offline,
        }
        directory = self.name
        if os.path.isdir(directory):
            if revision is not None:
                raise _errors.UsageError(f"revision={revision!r}: `{self.name}` is a folder, which has none")
            # Where it is, whatever the current directory is later.
            directory = self._place = os.path.abspath(directory)
        else:
            self._place = self.name
            settings = _program.options(revision=revision, offline=offline)
            found, _ = _program.call("model", "pull", *settings, targets=[self.name], progress=progress)
            directory = found["directory"]
        self._native = _encaje.Model(
            directory,
            pooling=None if pooling == "auto" else pooling,
            dtype=None if dtype == "auto" else dtype,
            device=device,
            dimensions=dimensions,
            max_length=max_length,
            threads=threads,
        )
        self._info = self._native.info
        self._filler: _encaje.MaskFiller | None = None

    def __repr__(self) -> str:
        info = self._info
        return (
            f"<encaje.Model '{self.name}': {info['family']}, {info['dimensions']} dimensions, {info['pooling']} pooling, "
            f"{info['dtype']} on {info['device']}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process loads it again.
        return _load, (self._place, self._options)

    @property
    def info(self) -> dict[str, Any]:
        """Family, dimensions, max_length, pooling, dtype, device, similarity, prompts, default_prompt."""
        return dict(self._info)

    @property
    def dimensions(self) -> int:
        """Components of a vector."""
        return int(self._info["dimensions"])

    @property
    def max_length(self) -> int | None:
        """Most tokens of a text, special ones included; None without a limit."""
        length: int | None = self._info["max_length"]
        return length

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name."""
        return dict(self._info["prompts"])

    @property
    def max_seq_length(self) -> int | None:
        """`max_length`, by the name that sentence-transformers has for it."""
        return self.max_length

    def get_sentence_embedding_dimension(self) -> int:
        """Return `dimensions`, by the name that sentence-transformers has for it."""
        return self.dimensions

    def encode(
        self,
        inputs: str | Iterable[str | None] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        sentences: str | Iterable[str | None] | None = None,
        precision: Literal["float32", "binary", "ubinary"] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
        errors: Literal["raise", "null"] = "raise",
        **others: object,
    ) -> Any:
        """Embed texts, on all cores or a GPU.

        The vectors have the bits of those that `encaje.run` writes. Arguments are those of ``SentenceTransformer.encode``; ones
        that cannot be honoured are refused by name.

        Parameters
        ----------
        inputs : str, or iterable of str
            A text, or texts: a list, a generator, a column of pandas, Polars or pyarrow. A generator is never held as a whole.
        prompt_name : str, optional
            Puts this prompt of the model before every text. By default its default prompt, if it has one; ``""`` is none.
        prompt : str, optional
            Puts this text before every text instead.
        batch_size : int, optional
            Is accepted and changes nothing: batches are packed by tokens.
        show_progress_bar : bool, optional
            By default in notebooks and terminals, for what takes more than a second.
        precision : {"float32", "binary", "ubinary"}
            ``ubinary`` packs the signs of eight components into a byte, ``binary`` also subtracts 128.
        convert_to_tensor : bool
            Returns a tensor of PyTorch that shares the array's memory.
        normalize_embeddings : bool
            Scales each vector to length 1.
        truncate_dim : int, optional
            Keeps the first components alone, before they are scaled.
        errors : {"raise", "null"}
            ``null`` gives a text without a vector (None, empty, ...) NaN instead of raising.
        sentences
            The older name of `inputs`.

        Returns
        -------
        ndarray of float32, [texts, dimensions]; [dimensions] for a single text
            Or of int8 or uint8, [texts, dimensions / 8], for a binary precision.

        Raises
        ------
        InvalidTextError
            A text has no vector: None or NaN, empty, not Unicode, larger than 32 MiB. Lists and columns are checked before any
            work.
        UsageError
            An argument is refused.
        """
        _refuse(others, precision, convert_to_numpy or convert_to_tensor, errors, batch_size)
        if (inputs is None) == (sentences is None):
            raise TypeError("Model.encode() takes texts: one of inputs and sentences")
        inputs = sentences if inputs is None else inputs
        assert inputs is not None
        if errors == "null" and precision != "float32":
            raise _errors.UsageError(f"errors='null' has no place for a missing vector in precision={precision!r}")
        _sizes(truncate_dim=truncate_dim)
        single = isinstance(inputs, str)
        encoding = _Call(self._prefix(prompt_name, prompt), normalize_embeddings, truncate_dim)
        texts = _Texts([inputs] if isinstance(inputs, str) else inputs)
        if errors == "raise":
            texts.check()
        vectors: NDArray[Any]
        vectors, _ = self._embed(texts, encoding, show_progress_bar, strict=errors == "raise")
        if precision != "float32":
            vectors = np.packbits(vectors > 0, axis=1)
            if precision == "binary":
                vectors = (vectors.astype(np.int16) - 128).astype(np.int8)
        found: Any = vectors[0] if single else vectors
        if convert_to_tensor:
            return needed("torch", "convert_to_tensor").from_numpy(found)
        return found

    def encode_query(self, inputs: str | Iterable[str | None], **arguments: Any) -> Any:
        """Embed questions: `encode` with the model's prompt ``query``, if it has one and no other is given."""
        return self._encode_as(("query",), inputs, arguments)

    def encode_document(self, inputs: str | Iterable[str | None], **arguments: Any) -> Any:
        """Embed documents: `encode` with the model's prompt ``document``, ``passage`` or ``corpus``, if it has one."""
        return self._encode_as(("document", "passage", "corpus"), inputs, arguments)

    def _encode_as(self, names: Sequence[str], inputs: Any, arguments: dict[str, Any]) -> Any:
        if arguments.get("prompt") is None and arguments.get("prompt_name") is None:
            prompts = self.prompts
            arguments["prompt_name"] = next((name for name in names if name in prompts), None)
        return self.encode(inputs, **arguments)

    def tokenize(
        self, texts: str | Sequence[str], prompt_name: str | None = None, prompt: str | None = None
    ) -> dict[str, Any]:
        """Cut texts into tokens.

        Returns
        -------
        dict
            As a tokenizer of transformers gives it, a list per text: ``input_ids``, ``attention_mask``,
            ``special_tokens_mask``, ``offset_mapping`` (characters of the text), and ``tokens``.
        """
        single = isinstance(texts, str)
        rows = self._native.tokenize([texts] if isinstance(texts, str) else list(texts), self._prefix(prompt_name, prompt))
        found: dict[str, list[Any]] = {
            "input_ids": [[token[0] for token in row] for row in rows],
            "attention_mask": [[1] * len(row) for row in rows],
            "special_tokens_mask": [[int(token[2]) for token in row] for row in rows],
            "offset_mapping": [[(token[3], token[4]) for token in row] for row in rows],
            "tokens": [[token[1] for token in row] for row in rows],
        }
        return {name: lists[0] for name, lists in found.items()} if single else found

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> NDArray[np.float32]:
        """Return the similarity of every pair, in the way that the model is meant for (cosine where it does not say).

        Returns
        -------
        ndarray of float32, [len(embeddings1), len(embeddings2)]
            Distances, ``euclidean`` and ``manhattan``, are negative, so that more is nearer.
        """
        first, second = (np.atleast_2d(np.asarray(one, dtype=np.float32)) for one in (embeddings1, embeddings2))
        how = self._info["similarity"] or "cosine"
        if how == "cosine":
            first, second = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (first, second))
        if how in ("cosine", "dot"):
            products: NDArray[np.float32] = first @ second.T
            return products
        order = 2 if how == "euclidean" else 1
        rows = [-np.linalg.norm(second - row, ord=order, axis=1) for row in first]
        return np.array(rows, dtype=np.float32).reshape(len(first), len(second))

    def fill_mask(self, texts: str | Sequence[str], top_k: int = 5) -> list[Any]:
        """Predict the masked tokens of texts.

        Returns
        -------
        list
            As the pipeline ``fill-mask`` of transformers gives it: dicts of ``score``, ``token``, ``token_str`` and
            ``sequence``, best first; a list of them per mask where a text has several masks, and per text where there are
            several texts (a list of one text is as the text).

        Raises
        ------
        UsageError
            A text has no mask.
        ModelError
            The model has no head for it.
        """
        _sizes(top_k=top_k)
        if self._filler is None:
            self._filler = self._native.mask_filler()
        names = ("score", "token", "token_str", "sequence")

        def one(text: str) -> list[Any]:
            assert self._filler is not None
            masks = [[dict(zip(names, filled)) for filled in mask] for mask in self._filler.fill(text, top_k)]
            return masks[0] if len(masks) == 1 else masks

        if isinstance(texts, str):
            return one(texts)
        filled = [one(text) for text in texts]
        return filled[0] if len(filled) == 1 else filled

    def _encode_with_reasons(
        self,
        texts: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """Embed texts; also return the reason of each that has no vector."""
        encoding = _Call(self._prefix(prompt_name, prompt), normalize_embeddings, truncate_dim)
        vectors, refused = self._embed(_Texts(texts), encoding, False, strict=False)
        reasons: list[str | None] = [None] * len(vectors)
        for index, reason in refused:
            reasons[index] = reason
        return vectors, reasons

    def _embed(
        self, texts: _Texts, call: _Call, show: bool | None, *, strict: bool
    ) -> tuple[NDArray[np.float32], list[tuple[int, str]]]:
        encoding = self._native.begin(
            prefix=call.prefix, normalize=call.normalize, dimensions=call.dimensions, rows=texts.count or 0
        )
        shown = bar(show, desc="encoding", total=texts.count, unit=" texts", unit_scale=True)
        all_refused = []
        try:
            for refused in texts.push(encoding, None if shown is None else shown.update):
                if refused and strict:
                    raise _errors.InvalidTextError(*refused[0])
                all_refused += refused
        finally:
            if shown is not None:
                shown.close()
        return encoding.finish(), all_refused

    def _prefix(self, prompt_name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        info = self._info
        name = info["default_prompt"] if prompt_name is None else prompt_name
        if name and name not in info["prompts"]:
            known = ", ".join(f"`{known}`" for known in info["prompts"]) or "none"
            raise _errors.UsageError(f"prompt_name `{name}`: the model has no prompt of this name", [f"it has {known}"])
        return str(info["prompts"][name]) if name else ""


class _Call(NamedTuple):
    """What differs between calls of `Model.encode`."""

    prefix: str
    normalize: bool
    dimensions: int | None


def _load(name: str, options: dict[str, Any]) -> Model:
    return Model(name, **options)


def _sizes(**given: int | None) -> None:
    """Refuse numbers that are none of things."""
    for name, value in given.items():
        if value is not None and value < 1:
            raise _errors.UsageError(f"{name}={value} is below 1")


def _refuse(
    others: Mapping[str, object], precision: str, as_array: bool, errors: str, batch_size: int | None
) -> None:
    """Refuse arguments of sentence-transformers that cannot be honoured, unless they ask for what is done anyway."""
    harmless = {"output_value": ("sentence_embedding",), "device": (None,), "pool": (None,), "chunk_size": (None,)}
    for name, value in others.items():
        if name not in harmless:
            raise TypeError(f"Model.encode() got an unexpected keyword argument {name!r}")
        if value not in harmless[name]:
            hints = {
                "output_value": "vectors of whole texts are what this computes",
                "device": "encaje.Model(..., device=...) decides where a model is",
                "pool": "all cores, or the GPU, are used anyway",
                "chunk_size": "all cores, or the GPU, are used anyway",
            }
            raise _errors.UsageError(f"{name}={value!r} is not supported", [hints[name]])
    if precision not in ("float32", "binary", "ubinary"):
        hint = "encaje.run(..., output_dtype='int8') stores a scale with each vector"
        raise _errors.UsageError(f"precision={precision!r} is not supported: float32, binary and ubinary are", [hint])
    if not as_array:
        raise _errors.UsageError("convert_to_numpy=False is not supported", ["list(vectors) makes a list of arrays"])
    if errors not in ("raise", "null"):
        raise _errors.UsageError(f"errors={errors!r} is neither 'raise' nor 'null'")
    _sizes(batch_size=batch_size)


class _Texts:
    """Texts from anywhere, in chunks."""

    def __init__(self, given: Any) -> None:
        self._column: _encaje.ArrowTexts | None = None
        self._items: Iterable[Any] = ()
        self.count: int | None = None
        kind, package = type(given).__name__, type(given).__module__.partition(".")[0]
        is_table = kind in ("DataFrame", "LazyFrame") or (package == "pyarrow" and kind in ("Table", "RecordBatch"))
        if isinstance(given, (bytes, Mapping, set, frozenset)) or is_table:
            raise _errors.UsageError(f"a {kind} is not a list of texts", ["give a list of str, or one column of a table"])
        if package == "pandas":
            given = sys.modules["pandas"].Series(given)
        table = _as_table(given, package)
        if table is not None:
            self._column = _encaje.ArrowTexts(table)
            self.count = len(self._column)
            return
        if package == "pandas":
            given = given.astype(object).tolist()
        elif isinstance(given, np.ndarray):
            if given.ndim != 1 or np.ma.is_masked(given):
                what = "masks texts" if np.ma.is_masked(given) else f"has {given.ndim} dimensions"
                raise _errors.UsageError(f"an array that {what} is not a list of texts")
            given = given.tolist()
        elif isinstance(given, tuple):
            given = list(given)
        self._items = given
        self.count = len(given) if isinstance(given, list) else None

    def check(self) -> None:
        """Raise for the first text without a vector, as far as it is known before any work."""
        invalid = None
        if self._column is not None:
            invalid = self._column.first_invalid()
        elif isinstance(self._items, list):
            invalid = _encaje.first_invalid(self._items)
        if invalid is not None:
            raise _errors.InvalidTextError(*invalid)

    def push(self, encoding: _encaje.Encoding, progress: Any) -> Iterator[list[tuple[int, str]]]:
        """Embed chunk after chunk, and yield the texts of each that have no vector."""
        if self._column is not None:
            total = len(self._column)
            for first in range(0, total, _CHUNK_TEXTS):
                yield encoding.push_column(self._column, first, min(_CHUNK_TEXTS, total - first), progress)
            return
        first, chunk, characters = 0, [], 0
        for text in self._items:
            chunk.append(text)
            characters += len(text) if isinstance(text, str) else 0
            if len(chunk) == _CHUNK_TEXTS or characters >= _CHUNK_CHARACTERS:
                yield encoding.push_list(chunk, first, progress)
                first, chunk, characters = first + len(chunk), [], 0
        if chunk:
            yield encoding.push_list(chunk, first, progress)


def _as_table(given: Any, package: str) -> Any:
    """Return a column of Arrow as a table with one column, without a copy; None for anything else."""
    if package == "polars" and hasattr(given, "to_frame"):
        polars = sys.modules["polars"]
        return (given.cast(polars.String) if given.dtype == polars.Null else given).to_frame()
    if package == "pyarrow":
        return sys.modules["pyarrow"].table([given], names=["text"])
    # Strings of pandas, but not those in objects: these may be anything.
    if package == "pandas" and str(given.dtype).startswith("str"):
        pyarrow = sys.modules.get("pyarrow")
        return None if pyarrow is None else pyarrow.table([pyarrow.array(given)], names=["text"])
    return None
