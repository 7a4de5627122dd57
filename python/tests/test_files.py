"""`encaje.run` and `encaje.Vectors`: the same job as the command's, from Python."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from conftest import SENTENCES, TINY, program

import encaje


@pytest.fixture()
def vectors(tmp_path: Path, corpus: Path) -> encaje.Vectors:
    return encaje.run(corpus, model=TINY, out=tmp_path / "out", quiet=True)


def test_the_same_folder_as_the_command(tmp_path: Path, corpus: Path, vectors: encaje.Vectors) -> None:
    command = [*program(), "run", str(corpus), "--model", TINY, "--out", str(tmp_path / "command"), "--quiet"]
    subprocess.run(command, check=True)
    ours, theirs = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("out", "command"))
    assert ours["spec_digest"] == theirs["spec_digest"] and ours["totals"] == theirs["totals"]
    assert encaje.open(tmp_path / "command").table().equals(vectors.table())


def test_again_is_nothing_to_do(corpus: Path, vectors: encaje.Vectors) -> None:
    before = (vectors.path / "part-00000.parquet").stat().st_mtime_ns
    again = encaje.run(corpus, model=TINY, out=vectors.path, quiet=True)
    assert len(again) == 4 and (vectors.path / "part-00000.parquet").stat().st_mtime_ns == before
    with pytest.raises(encaje.UsageError, match="other parameters") as raised:
        encaje.run(corpus, model=TINY, out=vectors.path, pooling="mean", quiet=True)
    assert any("rm -r" in hint for hint in raised.value.hints)


def test_reading(vectors: encaje.Vectors) -> None:
    assert (len(vectors), vectors.model, vectors.info["pooling"]) == (4, TINY, "cls")
    numbers = vectors.numpy()
    assert numbers.shape == (4, 32) and numbers.dtype == np.float32
    table = vectors.table()
    assert table["text"].to_pylist() == SENTENCES and table["row"].to_pylist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), numbers)
    assert vectors.table(["label", "row"]).column_names == ["row", "label"]
    assert vectors.pandas()["embedding"][0].shape == (32,)
    assert vectors.polars(["label"])["label"].to_list() == ["a", "b", "a", "b"]
    assert pl.DataFrame(vectors).shape == (4, len(table.column_names))
    assert pa.table(vectors).equals(table)
    assert sum(batch.num_rows for batch in vectors.batches(["row"])) == 4
    assert "4 rows, 32 dimensions" in repr(vectors)
    with pytest.raises(Exception, match="no_such"):
        vectors.table(["no_such"])


def test_rejected_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "uno"}\n{"text": null}\n{"text": " "}\n{"text": "cuatro"}\n')
    for output_dtype in ("f32", "f16", "int8", "binary"):
        vectors = encaje.run(path, model=TINY, out=tmp_path / output_dtype, output_dtype=output_dtype, quiet=True)  # type: ignore[arg-type]
        assert vectors.rejected == [(1, "null_text"), (2, "empty_text")]
        assert vectors.counts["rejects"] == {"null_text": 1, "empty_text": 1}
        assert np.isnan(vectors.numpy()).all(axis=1).tolist() == [False, True, True, False]
    with pytest.raises(encaje.Error, match="null_text"):
        encaje.run(path, model=TINY, out=tmp_path / "fail", on_bad_row="fail", quiet=True)


def test_several_shards_and_files(tmp_path: Path, corpus: Path) -> None:
    other = tmp_path / "more.csv"
    other.write_text(corpus.read_text())
    vectors = encaje.run([corpus, other], model=TINY, out=tmp_path / "out", shard_rows=1, keep=["id", "label"], quiet=True)
    assert len(vectors) == 8 and len(list(vectors.path.glob("part-*.parquet"))) == 8
    assert vectors.table()["row"].to_pylist() == list(range(8))
    assert "text" not in vectors.table().column_names
    np.testing.assert_array_equal(vectors.numpy()[:4], vectors.numpy()[4:])


def test_reuse(tmp_path: Path, corpus: Path, vectors: encaje.Vectors) -> None:
    more = tmp_path / "more.csv"
    more.write_text(corpus.read_text() + "9,a new text,c\n")
    other = vectors.merge(tmp_path / "a,b.parquet")
    grown = encaje.run(more, model=TINY, out=tmp_path / "grown", reuse=[other.path, vectors.path], quiet=True)
    assert grown.counts["reused"] == 4 and len(grown) == 5
    np.testing.assert_array_equal(grown.numpy()[:4], vectors.numpy())
    assert grown.verify(reuse=True)["reused_compared"] == 4
    moved = other.path.rename(tmp_path / "moved.parquet")
    assert grown.verify(more, reuse=moved)["passed"]
    with pytest.raises(encaje.VectorsError, match="--pooling was `cls`, is `max`"):
        encaje.run(more, model=TINY, out=tmp_path / "max", pooling="max", reuse=vectors.path, quiet=True)


def test_verify_merge_export(tmp_path: Path, corpus: Path, vectors: encaje.Vectors) -> None:
    assert vectors.verify(corpus)["passed"]
    merged = vectors.merge(tmp_path / "all.parquet")
    assert merged.table().equals(vectors.table()) and merged.verify()["passed"]
    with pytest.raises(encaje.UsageError, match="already exists"):
        vectors.merge(tmp_path / "all.parquet")
    assert vectors.export(tmp_path / "all.npy")["rows"] == 4
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), vectors.numpy())
    corpus.write_text(corpus.read_text().replace("pan dulce", "pan salado"))
    with pytest.raises(encaje.VectorsError) as raised:
        vectors.verify(corpus)
    assert raised.value.report is not None and not raised.value.report["passed"]


def test_damaged_and_foreign_files(tmp_path: Path, corpus: Path, vectors: encaje.Vectors) -> None:
    part = vectors.path / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(encaje.VectorsError, match="damaged"):
        encaje.open(vectors.path)
    with pytest.raises(encaje.VectorsError, match="manifest.json"):
        encaje.open(tmp_path)
    with pytest.raises(encaje.VectorsError):
        encaje.open(corpus)


def test_errors_are_typed(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"

    def run(source: Any = corpus, **options: Any) -> None:
        encaje.run(source, **{"model": TINY, "out": out, "quiet": True, **options})

    with pytest.raises(encaje.CorpusError, match="does not exist"):
        run(tmp_path / "nothing.csv")
    with pytest.raises(encaje.CorpusError, match="no column `tweet`"):
        run(text_column="tweet")
    with pytest.raises(encaje.ModelError, match="config.json"):
        run(model=tmp_path)
    with pytest.raises(encaje.UsageError, match="best"):
        run(pooling="best")
    with pytest.raises(encaje.UsageError, match="no corpus"):
        run([])
    with pytest.raises(encaje.UsageError, match="gone.toml"):
        run(config=tmp_path / "gone.toml")
    assert not out.exists()


def test_settings_of_the_environment_and_the_file(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encaje.toml").write_text('[run]\npooling = "max"\n')
    assert encaje.run(corpus, model=TINY, out="a", quiet=True).info["pooling"] == "max"
    monkeypatch.setenv("ENCAJE_POOLING", "mean")
    assert encaje.run(corpus, model=TINY, out="b", quiet=True).info["pooling"] == "mean"
    assert encaje.run(corpus, model=TINY, out="c", pooling="cls", quiet=True).info["pooling"] == "cls"
    # A folder of the package's name is no package.
    assert len(encaje.run(corpus, model=TINY, out="encaje", quiet=True)) == 4
    assert len(encaje.run(corpus, model=TINY, out="encaje", quiet=True)) == 4


def test_arguments_win_over_the_environment(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCAJE_NO_NORMALIZE", "true")
    monkeypatch.setenv("ENCAJE_MESSAGE_FORMAT", "human")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    assert not encaje.run(corpus, model=TINY, out=tmp_path / "a", quiet=True).info["normalized"]
    assert encaje.run(corpus, model=TINY, out=tmp_path / "b", normalize=True, quiet=True).info["normalized"]


def test_arguments_of_any_kind(tmp_path: Path, corpus: Path) -> None:
    shards = {"shard_rows": np.int64(2), "max_length": np.int32(9), "threads": np.uint8(1)}
    vectors = encaje.run(corpus, model=TINY, out=tmp_path / "a", keep=[], quiet=True, **shards)  # type: ignore[arg-type]
    assert vectors.info["max_length"] == 9 and "id" not in vectors.table().column_names
    for refused in ({"keep": ["a,b"]}, {"threads": 0}, {"revision": "main"}):
        with pytest.raises(encaje.UsageError) as raised:
            encaje.run(corpus, model=TINY, out=tmp_path / "b", quiet=True, **refused)  # type: ignore[arg-type]
        assert "Usage:" not in str(raised.value)
    with pytest.raises(encaje.UsageError, match="standard input"):
        encaje.run("-", model=TINY, out=tmp_path / "b", format="csv")
    with pytest.raises(encaje.UsageError, match="too long"):
        encaje.run([corpus] * 40_000, model=TINY, out=tmp_path / "b")


def test_vectors_are_where_they_were(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = encaje.run(corpus, model=TINY, out="out", quiet=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert vectors.verify(corpus)["passed"] and len(pickle.loads(pickle.dumps(vectors))) == 4
    for url in ("ftp://host/vectors", "s3://key:secret@bucket/vectors", "file:///vectors"):
        with pytest.raises(encaje.Error) as raised:
            encaje.open(url)
        assert "secret" not in str(raised.value)


def test_every_option_of_the_command_is_a_parameter() -> None:
    text = subprocess.run([*program(), "run", "--help"], check=True, capture_output=True, text=True).stdout
    options = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", text, re.MULTILINE))
    options -= {"help", "version", "json", "strict", "quiet", "verbose", "message-format"}
    assert len(options) > 25
    parameters = set(inspect.signature(encaje.run).parameters)
    parameters |= {"no_normalize"}
    assert {option.replace("-", "_") for option in options} - parameters == set()


def test_notes_and_warnings_go_to_stderr(tmp_path: Path, corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encaje.run(corpus, model=TINY, out=tmp_path / "out")
    said = capfd.readouterr()
    assert said.out == "" and "cls pooling" in said.err
    encaje.run(corpus, model=TINY, out=tmp_path / "quiet", quiet=True)
    assert capfd.readouterr().err == ""


LONG = """
import encaje, sys
try:
    encaje.run(sys.argv[1], model=sys.argv[2], out=sys.argv[3], shard_rows=2000, quiet=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def begin_long_run(tmp_path: Path, code: str = LONG) -> tuple[subprocess.Popen[str], list[str]]:
    source = tmp_path / "long.txt"
    source.write_text("".join(f"{number} Mi abuela teje bufandas de lana roja.\n" for number in range(200_000)))
    arguments = [str(source), TINY, str(tmp_path / "out")]
    started = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not list((tmp_path / "out").glob("**/shards/**/*.parquet")):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.05)
    return started, arguments


def test_a_forked_process_does_not_keep_a_job_running(tmp_path: Path) -> None:
    forks = LONG.replace("import encaje, sys", "import encaje, os, sys, threading, time").replace(
        "try:", "threading.Timer(0.5, lambda: os.fork() or time.sleep(20)).start()\ntry:", 1
    )
    started, arguments = begin_long_run(tmp_path, forks)
    time.sleep(1)
    started.kill()
    started.wait()
    finish(arguments)


def test_ctrl_c_keeps_the_work(tmp_path: Path) -> None:
    started, arguments = begin_long_run(tmp_path)
    started.send_signal(signal.SIGINT)
    assert started.communicate(timeout=120)[0] == "interrupted\n"
    finish(arguments)


def test_a_killed_process_stops_its_job_and_the_next_resumes(tmp_path: Path) -> None:
    started, arguments = begin_long_run(tmp_path)
    started.kill()
    started.communicate()
    finish(arguments)


def finish(arguments: list[str]) -> None:
    """Run again as soon as the lock is free, which another process may hold for a moment."""
    deadline = time.monotonic() + 120
    while True:
        try:
            vectors = encaje.run(arguments[0], model=arguments[1], out=arguments[2], shard_rows=2000, quiet=True)
            break
        except encaje.UsageError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert len(vectors) == 200_000 and vectors.rejected == []
