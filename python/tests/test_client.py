"""`encaje.Client` with a cluster of one coordinator and one worker, started by the package's own command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES, TINY, program

import encaje


@pytest.fixture()
def client(tmp_path: Path) -> Iterator[encaje.Client]:
    words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "jobs.db", "--storage", "storage", "--json"]
    started = [subprocess.Popen([*program(), *words], stdout=subprocess.PIPE, cwd=tmp_path)]
    assert started[0].stdout
    url = "http://" + json.loads(started[0].stdout.readline())["address"]
    worker = [*program(), "worker", "--coordinator", url, "--spool", str(tmp_path / "spool"), "--device", "cpu"]
    started.append(subprocess.Popen(worker, cwd=tmp_path))
    yield encaje.Client(url)
    for process in reversed(started):
        process.terminate()
        process.wait(timeout=120)
    started[0].stdout.close()


def test_a_job_from_its_submission_to_its_vectors(client: encaje.Client, corpus: Path, tmp_path: Path) -> None:
    job = client.submit(corpus, model=TINY, pooling="mean", normalize=False)
    assert client.submit(corpus, model=TINY, pooling="mean", normalize=False) == job, "the same job"
    assert client.wait(job)["state"] == "succeeded"
    vectors = client.download(job, tmp_path / "result")
    assert vectors.verify(corpus)["passed"] and vectors.info["pooling"] == "mean" and not vectors.info["normalized"]
    expected = encaje.Model(TINY, pooling="mean").encode(SENTENCES, normalize_embeddings=False)
    np.testing.assert_array_equal(vectors.numpy(), expected)
    assert [status["job"] for status in client.jobs()] == [job]
    assert client.status(job)["rows_done"] == 4
    with pytest.raises(encaje.ClusterError):
        client.pause(job)


def test_a_job_that_fails(client: encaje.Client, corpus: Path) -> None:
    text = corpus.read_text().replace("Mi abuela teje bufandas de lana roja.", "")
    corpus.write_text(text)
    job = client.submit(corpus, model=TINY, on_bad_row="fail")
    with pytest.raises(encaje.Error, match="empty_text"):
        client.wait(job)


def test_a_cluster_that_is_not_there(corpus: Path) -> None:
    client = encaje.Client("http://127.0.0.1:9", token="secret")
    assert "secret" not in repr(client)
    with pytest.raises(encaje.ClusterError, match="no coordinator answers"):
        client.jobs()
    with pytest.raises(encaje.UsageError):
        client.submit(corpus, model=TINY, no_such_option=3)
    with pytest.raises(encaje.UsageError, match="no id of a job"):
        client.status("tweets")
