"""Outputs in a bucket. The test that runs this file starts an S3 server, and names it in the environment."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import encaje
import numpy as np
import pytest

from conftest import TINY

BUCKET = os.environ.get("ENCAJE_TEST_BUCKET", "")
pytestmark = pytest.mark.skipif(not BUCKET, reason="no S3 server")


def test_a_run_into_a_bucket_is_opened_from_there(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local = encaje.run(corpus, model=TINY, out="out", quiet=True)
    remote = encaje.run(corpus, model=TINY, out=f"{BUCKET}/out", quiet=True)
    assert remote.path == f"{BUCKET}/out" and not list(tmp_path.glob("s3-*"))
    assert len(remote) == len(local) and np.array_equal(remote.numpy(), local.numpy(), equal_nan=True)
    again = pickle.loads(pickle.dumps(encaje.open(f"{BUCKET}/out")))
    assert again.table().equals(local.table())
    assert again.verify(corpus)["passed"]
    merged = again.merge(f"{BUCKET}/all.parquet")  # type: ignore[arg-type]
    assert np.array_equal(merged.numpy(), local.numpy(), equal_nan=True)
    with pytest.raises(encaje.Error, match="none"):
        encaje.open(f"{BUCKET}/none")
