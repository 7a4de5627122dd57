"""Packages that only some things need."""

from __future__ import annotations

import importlib
from typing import Any


def needed(package: str, by: str) -> Any:
    """Import a package, or say what needs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{by} needs {package}: pip install {package}") from error
