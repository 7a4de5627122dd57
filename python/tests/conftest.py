"""What all tests share: tiny models, a corpus, and examples in a folder of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "engine" / "testdata"
#: Random weights of BETO's layout: 32 dimensions, CLS pooling, a head that fills masks.
TINY = str(TESTDATA / "beto")

SENTENCES = [
    "Compré pan dulce para la merienda.",
    "El tren a Puebla sale a las ocho.",
    "Mi abuela teje bufandas de lana roja.",
    "¿Alguien vio las llaves del coche?",
]


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith("ENCAJE_") and not name.startswith("ENCAJE_TEST_")]:
        del os.environ[name]
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"


@pytest.fixture()
def corpus(tmp_path: Path) -> Path:
    """A CSV file of four rows with labels."""
    path = tmp_path / "tweets.csv"
    rows = [f'{index},"{text}",{"ab"[index % 2]}' for index, text in enumerate(SENTENCES)]
    path.write_text("\n".join(["id,text,label", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the examples of docstrings beside a corpus, with the names that they take for granted."""
    if type(request.node).__name__ != "DoctestItem":
        return
    import encaje

    request.getfixturevalue("corpus")
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue("doctest_namespace").update(encaje=encaje, MODEL=TINY)


def program() -> list[str]:
    """Return how the command is started, as its entry point does it."""
    return [sys.executable, "-m", "encaje"]
