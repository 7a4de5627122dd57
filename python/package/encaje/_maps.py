"""Maps of vectors: UMAP, pictures, comparisons of models."""

from __future__ import annotations

import html
import io
import json
import numbers
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path as LocalPath
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encaje import _encaje, _errors, _program
from encaje._optional import needed
from encaje._vectors import Vectors

if TYPE_CHECKING:
    import pandas

Path = Union[str, "os.PathLike[str]"]

_KINDS = ("html", "png", "svg", "pdf")
#: As many names as a heat map can show.
_SIMILAR_MAX = 400


class Picture:
    """A picture as a page, a PNG, an SVG and a PDF, which shows itself in notebooks.

    Attributes
    ----------
    summary : dict
        What was drawn, in numbers.
    """

    def __init__(self, pictures: dict[str, bytes], summary: dict[str, Any]) -> None:
        self._pictures = pictures
        self.summary = summary

    @property
    def _height(self) -> int:
        """Pixels that the page has in a notebook."""
        return 640

    @property
    def html(self) -> str:
        """The page: one file without links to elsewhere."""
        return self._pictures["html"].decode()

    def save(self, path: Path) -> None:
        """Write the picture; the extension (``.html``, ``.png``, ``.svg``, ``.pdf``) tells the format. An existing file is replaced.

        Raises
        ------
        UsageError
            The extension is another.
        """
        kind = LocalPath(path).suffix.lstrip(".").lower()
        if kind not in self._pictures:
            raise _errors.UsageError(f"`{os.fspath(path)}` does not end in .html, .png, .svg or .pdf")
        LocalPath(path).write_bytes(self._pictures[kind])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        # The page runs in a frame of its own, which reaches nothing of the notebook; selected rows can be saved. Where no script runs there is the PNG.
        page = html.escape(self.html, quote=True)
        frame = f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{page}" width="100%" height="{self._height}" style="border:0"></iframe>'
        return {"text/html": frame, "image/png": self._pictures["png"], "text/plain": repr(self)}


class Map(Picture):
    """Vectors projected to the plane, coloured by a label."""

    def __init__(self, pictures: dict[str, bytes], summary: dict[str, Any], coords: bytes) -> None:
        super().__init__(pictures, summary)
        self._coords = coords

    def __repr__(self) -> str:
        label = self.summary["label"]
        return f"<encaje.Map: {self.summary['points']:,} points" + (f" by {label}>" if label else ">")

    @property
    def coords(self) -> pandas.DataFrame:
        """The points: ``x``, ``y``, ``row`` and the kept columns, as a DataFrame. Needs pandas and pyarrow."""
        return needed("pandas", "Map.coords").read_parquet(io.BytesIO(self._coords))


class Comparison(Picture):
    """Models side by side, and how well each separates the labels."""

    @property
    def _height(self) -> int:
        # Two maps side by side, and the table below.
        models = len(self.summary["models"])
        return 220 + 360 * ((models + 1) // 2) + 28 * models

    def __repr__(self) -> str:
        return f"<encaje.Comparison of {len(self.summary['models'])} models by {self.summary['label']}>"

    @property
    def table(self) -> pandas.DataFrame:
        """A row per model, as a DataFrame. Needs pandas.

        ``label_accuracy`` is the leave-one-out accuracy of the 15 nearest neighbours, ``silhouette`` and
        ``trustworthiness`` as usual; ``…_low`` and ``…_high`` are the ends of a 95 % interval.
        """
        return needed("pandas", "Comparison.table").DataFrame([_flat(model) for model in self.summary["models"]])

    @property
    def sentences(self) -> list[str]:
        """What the numbers say, and what they do not, the most important first."""
        return list(self.summary["sentences"])

    @property
    def by_label(self) -> pandas.DataFrame:
        """The accuracy of each model for every label, the most frequent first, as a DataFrame. Needs pandas."""
        names = [model["model"] for model in self.summary["models"]]
        rows = [
            {"label": label["label"], "rows": label["rows"]}
            | {name: accuracy["value"] for name, accuracy in zip(names, label["accuracy"], strict=True)}
            for label in self.summary["by_label"]
        ]
        return needed("pandas", "Comparison.by_label").DataFrame(rows)


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in model.items():
        if isinstance(value, dict):
            flat |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        else:
            flat[name] = value
    return flat


def _draw(command: str, targets: list[str], options: list[str], *, progress: bool | None, coords: bool) -> tuple[dict[str, bytes], dict[str, Any], bytes]:
    with tempfile.TemporaryDirectory(prefix="encaje-") as folder:
        files = {kind: LocalPath(folder, f"picture.{kind}") for kind in _KINDS}
        places = LocalPath(folder, "coords.parquet")
        out = [f"--out={file}" for file in files.values()]
        if coords:
            out.append(f"--coords={places}")
        summary, _ = _program.call(command, *options, *out, targets=targets, progress=progress)
        pictures = {kind: file.read_bytes() for kind, file in files.items()}
        # These files are gone in a moment.
        summary = {name: value for name, value in summary.items() if name not in ("out", "pictures", "coords")}
        return pictures, summary, places.read_bytes() if coords else b""


def _options(*, n_neighbors: int, n_epochs: int | None, **others: Any) -> list[str]:
    """Return the parameters of a map, named as umap-learn's, as options of a command."""
    return _program.options(neighbors=n_neighbors, epochs=n_epochs, **others)


def project(target: Path, *, progress: bool | None, **parameters: Any) -> Map:
    """Draw one set of vectors, as `Vectors.project` has it."""
    return Map(*_draw("project", [os.fspath(target)], _options(**parameters), progress=progress, coords=True))


def compare(
    vectors: Iterable[Vectors | Path],
    label: str,
    *,
    label_type: Literal["auto", "category", "number"] | None = None,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Literal["cosine", "euclidean"] = "cosine",
    n_epochs: int | None = None,
    seed: int = 42,
    lang: Literal["en", "es"] = "en",
    progress: bool | None = None,
) -> Comparison:
    """Compare models over the same corpus: a map of each, and how well each separates the values of a kept column.

    Parameters
    ----------
    vectors : Vectors or paths
        The outputs, at least two.
    label : str
        The column.
    lang : {"en", "es"}
        The language of the sentences and tables.

    Returns
    -------
    Comparison
        Shows itself in notebooks; ``.table`` has the numbers, ``.sentences`` says what they mean.
    """
    targets = [os.fspath(one.path if isinstance(one, Vectors) else one) for one in vectors]
    if len(targets) < 2:
        raise _errors.UsageError("at least two sets of vectors are compared")
    options = _options(
        label=label,
        label_type=label_type,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        n_epochs=n_epochs,
        seed=seed,
        lang=lang,
    )
    pictures, summary, _ = _draw("compare", targets, options, progress=progress, coords=False)
    return Comparison(pictures, summary)


class Similarity(Picture):
    """How near texts are to each other, as a heat map."""

    def __repr__(self) -> str:
        return f"<encaje.Similarity of {len(self.summary['texts'])} texts>"

    @property
    def table(self) -> pandas.DataFrame:
        """The cosine of every pair, as a DataFrame with the texts as rows and columns. Needs pandas."""
        texts = self.summary["texts"]
        return needed("pandas", "Similarity.table").DataFrame(self.summary["cosine"], index=texts, columns=texts)


def similarity(
    texts: Iterable[str],
    *,
    model: Path,
    revision: str | None = None,
    offline: bool = False,
    pooling: Literal["auto", "cls", "mean", "max", "last"] | None = None,
    prompt: str | None = None,
    prefix: str | None = None,
    progress: bool | None = None,
) -> Similarity:
    """Show how near texts are to each other: the cosine of every pair as a heat map.

    Parameters
    ----------
    texts : iterable of str
        A few texts.
    model : str
        A Hub id, or the folder of a model. The other parameters are those of `run`.

    Returns
    -------
    Similarity
        Shows itself in notebooks; ``.table`` has the numbers.
    """
    rows = [texts] if isinstance(texts, str) else list(texts)
    invalid = _encaje.first_invalid(rows)
    if invalid is not None:
        raise _errors.InvalidTextError(*invalid)
    if not 2 <= len(rows) <= _SIMILAR_MAX:
        raise _errors.UsageError(f"from 2 to {_SIMILAR_MAX} texts can be shown, not {len(rows)}")
    options = _program.options(
        model=model, revision=revision, offline=bool(offline), pooling=pooling, prompt=prompt, prefix=prefix
    )
    with tempfile.TemporaryDirectory(prefix="encaje-") as folder:
        # A file, since a command line has no place for long texts and zero bytes.
        source = LocalPath(folder, "texts.jsonl")
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows), encoding="utf-8")
        options += [f"--from={source}", f"--rows={len(rows)}"]
        pictures, summary, _ = _draw("similarity", [], options, progress=progress, coords=False)
    return Similarity(pictures, summary)


def umap(
    array: ArrayLike,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    n_epochs: int | None = None,
    random_state: int = 42,
) -> NDArray[np.float32]:
    """Project the rows of an array to the plane by UMAP, on all cores.

    Parameters are named as those of umap-learn. The same array, parameters and ``random_state`` give the same result, whatever
    the number of cores.

    Parameters
    ----------
    array : array_like, [points, components]
        Is read as float32.

    Returns
    -------
    ndarray of float32, [points, 2]

    Raises
    ------
    UsageError
        A number is not finite, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> encaje.umap(np.eye(20), n_neighbors=5).shape
    (20, 2)
    """
    if np.ma.is_masked(array):
        raise _errors.UsageError("an array with masked numbers cannot be projected")
    for name, value in {"n_neighbors": n_neighbors, "n_epochs": n_epochs, "random_state": random_state}.items():
        if not isinstance(value, numbers.Integral) and not (value is None and name == "n_epochs"):
            raise _errors.UsageError(f"{name}={value!r} is no whole number")
        if value is not None and value < 0:
            raise _errors.UsageError(f"{name}={value} is negative")
    points = np.ascontiguousarray(array, dtype=np.float32)
    if points.ndim != 2:
        raise _errors.UsageError(f"an array of {points.ndim} dimensions has no rows to project: it needs 2")
    return _encaje.umap(
        points,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        n_epochs=n_epochs,
        random_state=random_state,
    )
