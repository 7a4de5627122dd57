"""The example notebook runs from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, TESTDATA
from nbclient import NotebookClient

NOTEBOOK = ROOT / "python" / "examples" / "transformers.ipynb"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = ROOT / "build" / "models" / "all-MiniLM-L6-v2"
    models = {"BETO": TESTDATA / "beto", "BERTIN": TESTDATA / "bertin", "mBERT": TESTDATA / "mbert", "MiniLM": real}
    monkeypatch.setenv("CUADERNO_MODELOS", json.dumps({name: str(folder) for name, folder in models.items()}))
    monkeypatch.setenv("CUADERNO_FRASES", str(ROOT / "samples" / "frases.csv"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.cell_type != "code" or not cell.outputs for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    pictures = [data for data in shown if "image/png" in data]
    assert len(pictures) == 3 and all("<iframe" in data["text/html"] for data in pictures)
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "MiniLM acierta el emoji" in said and "la diferencia es clara" in said
