"""Text corpora to embedding vectors, with every row accounted for.

>>> import encaje
>>> model = encaje.Model("sentence-transformers/all-MiniLM-L6-v2")      # doctest: +SKIP
>>> model.encode(["Hoy vamos a comer unos tacos."]).shape               # doctest: +SKIP
(1, 384)

`Model` embeds texts in memory. `run` embeds files, as the command ``encaje run`` does, and returns `Vectors`, which `open` opens
again later. `compare` and `umap` draw, `Client` talks to a cluster, `Embed` works inside engines such as Ray and Spark.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encaje._client import Client as Client
    from encaje._embed import Embed as Embed
    from encaje._errors import ClusterError as ClusterError
    from encaje._errors import CorpusError as CorpusError
    from encaje._errors import Error as Error
    from encaje._errors import InvalidTextError as InvalidTextError
    from encaje._errors import ModelError as ModelError
    from encaje._errors import UsageError as UsageError
    from encaje._errors import VectorsError as VectorsError
    from encaje._job import run as run
    from encaje._maps import Comparison as Comparison
    from encaje._maps import Map as Map
    from encaje._maps import Similarity as Similarity
    from encaje._maps import compare as compare
    from encaje._maps import similarity as similarity
    from encaje._maps import umap as umap
    from encaje._model import Model as Model
    from encaje._vectors import Vectors as Vectors
    from encaje._vectors import open as open

# Where each public name is. They are imported when they are used, so that the command starts without NumPy.
_PLACES = {
    "Client": "_client",
    "Embed": "_embed",
    "ClusterError": "_errors",
    "CorpusError": "_errors",
    "Error": "_errors",
    "InvalidTextError": "_errors",
    "ModelError": "_errors",
    "UsageError": "_errors",
    "VectorsError": "_errors",
    "run": "_job",
    "Comparison": "_maps",
    "Map": "_maps",
    "Similarity": "_maps",
    "compare": "_maps",
    "similarity": "_maps",
    "umap": "_maps",
    "Model": "_model",
    "Vectors": "_vectors",
    "open": "_vectors",
}

# All but `open`, which `from encaje import *` would put in the place of Python's own.
__all__ = ["__version__", *(name for name in _PLACES if name != "open")]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name not in _PLACES and name != "__version__":
            raise AttributeError(f"module 'encaje' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"encaje.{_PLACES.get(name, '_encaje')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
