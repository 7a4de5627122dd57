"""Maps, comparisons and UMAP of arrays."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TESTDATA, TINY

import encaje

FRASES = ROOT / "samples" / "frases.csv"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[encaje.Vectors]:
    folder = tmp_path_factory.mktemp("maps")
    models = [TINY, TESTDATA / "mbert"]
    return [encaje.run(FRASES, model=model, out=folder / Path(model).name, quiet=True) for model in models]


def test_a_map(outputs: list[encaje.Vectors], tmp_path: Path) -> None:
    drawn = outputs[0].project(label="label", n_epochs=50)
    assert (len(drawn.coords), list(drawn.coords.columns[-2:])) == (448, ["x", "y"])
    assert {"row", "text", "label"} <= set(drawn.coords.columns)
    for name, start in [("a.png", b"\x89PNG"), ("a.svg", b"<svg"), ("a.pdf", b"%PDF"), ("a.html", b"<!")]:
        drawn.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(encaje.UsageError, match="a.gif"):
        drawn.save(tmp_path / "a.gif")
    shown = drawn._repr_mimebundle_()
    assert shown["image/png"].startswith(b"\x89PNG") and 'sandbox="allow-scripts allow-downloads"' in shown["text/html"]
    assert "<script" not in shown["text/html"], "the page is an attribute"
    assert repr(drawn) == "<encaje.Map: 448 points by label>"
    assert pq.read_metadata(io.BytesIO(drawn._coords)).metadata[b"encaje.umap.seed"] == b"42"
    again = outputs[0].project(label="label", n_epochs=50)
    assert again.html == drawn.html
    with pytest.raises(encaje.UsageError, match="no kept column `emoji`"):
        outputs[0].project(label="emoji")


def test_a_comparison(outputs: list[encaje.Vectors]) -> None:
    compared = encaje.compare([outputs[0], outputs[1].path], label="label", n_epochs=50)
    table = compared.table
    assert len(table) == 2 and table["label_accuracy"].between(0, 1).all()
    assert (table["label_accuracy_low"] <= table["label_accuracy"]).all()
    assert repr(compared) == "<encaje.Comparison of 2 models by label>"
    assert "nearest rows" in compared.sentences[0]
    by_label = compared.by_label
    assert by_label["rows"].sum() == compared.summary["rows"] and by_label.shape[1] == 4
    with pytest.raises(encaje.UsageError, match="at least two"):
        encaje.compare(outputs[:1], label="label")


def test_similarity() -> None:
    drawn = encaje.similarity(["uno", "dos", "tres"], model=TINY)
    vectors = encaje.Model(TINY).encode(["uno", "dos", "tres"])
    np.testing.assert_allclose(drawn.table.to_numpy(), vectors @ vectors.T, atol=1e-6)
    assert list(drawn.table.columns) == ["uno", "dos", "tres"] and drawn.html.startswith("<!")
    long = encaje.similarity(["x" * 140_000, "a\0b"], model=TINY)
    assert long.table.shape == (2, 2)
    with pytest.raises(encaje.InvalidTextError, match="empty"):
        encaje.similarity(["uno", ""], model=TINY)
    with pytest.raises(encaje.UsageError, match="from 2 to 400"):
        encaje.similarity("abc", model=TINY)


def test_umap_is_that_of_project(outputs: list[encaje.Vectors]) -> None:
    drawn = outputs[0].project(n_epochs=50, seed=3)
    found = encaje.umap(outputs[0].numpy(), metric="cosine", n_epochs=50, random_state=3)
    np.testing.assert_array_equal(found, drawn.coords[["x", "y"]].to_numpy())


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros(3), {}, "1 dimensions"),
        (np.zeros((0, 3)), {}, "no vectors"),
        (np.full((30, 3), np.nan), {}, "not finite"),
        (np.eye(30), {"metric": "manhattan"}, "manhattan"),
        (np.eye(30), {"n_neighbors": 1}, "neighbors"),
        (np.eye(30), {"min_dist": 4}, "min_dist"),
        (np.eye(30), {"random_state": None}, "random_state"),
        (np.eye(30), {"n_epochs": -1}, "n_epochs"),
        (np.ma.masked_less(np.eye(30), 0.5), {}, "masked"),
    ],
)
def test_umap_refuses(array: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(encaje.UsageError, match=said):
        encaje.umap(array, **options)


INTERRUPTED = """
import encaje, numpy
array = numpy.random.default_rng(0).normal(size=(30_000, 64))
print("ready", flush=True)
try:
    encaje.umap(array, n_epochs=10_000)
except KeyboardInterrupt:
    print("interrupted", encaje.umap(array[:50]).shape, flush=True)
"""


def test_ctrl_c_ends_umap() -> None:
    started = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout
    assert started.stdout.readline() == "ready\n"
    time.sleep(2)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert (out, err, started.returncode) == ("interrupted (50, 2)\n", "", 0)
