"""The command of the package: the program itself, in Python's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, program

import encaje


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program(), *words], capture_output=True, text=True, cwd=cwd, check=False)


def test_version_help_and_usage_errors() -> None:
    assert run("--version").stdout == f"encaje {encaje.__version__}\n"
    assert "Usage: encaje" in run("--help").stdout
    wrong = run("run", "--no-such-option")
    assert wrong.returncode == 2 and "--no-such-option" in wrong.stderr


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("uno\n\ndos\n")
    done = run("run", "a.txt", "--model", TINY, "--out", "out", "--json", "--strict", cwd=tmp_path)
    assert done.returncode == 3 and json.loads(done.stdout)["rejected"] == {"empty_text": 1}
    failed = run("verify", "nowhere", cwd=tmp_path)
    assert failed.returncode == 1 and failed.stdout == "" and failed.stderr.startswith("error: ")


def test_messages_for_programs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("uno\ndos\n")
    options = ["--message-format=json", "--json"]
    done = run("run", "a.txt", "--model", TINY, "--out", "out", *options, cwd=tmp_path)
    messages = [json.loads(line) for line in done.stderr.splitlines()]
    assert {message["message"] for message in messages} >= {"note", "progress"}
    assert [message for message in messages if message["message"] == "progress"][-1]["rows"] == 2
    failed = run("run", "b.txt", "--model", TINY, "--out", "out", *options, cwd=tmp_path)
    assert json.loads(failed.stderr) == {
        "message": "error", "kind": "corpus", "text": "`b.txt` does not exist", "hints": []
    }  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_stops_well(tmp_path: Path, stop: signal.Signals) -> None:
    words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "jobs.db", "--storage", "storage", "--json"]
    started = subprocess.Popen([*program(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert started.stdout
    assert json.loads(started.stdout.readline())["event"] == "listening"
    # The program alone: no thread of Python runs beside its own.
    names = {Path(task, "comm").read_text().strip() for task in Path(f"/proc/{started.pid}/task").iterdir()}
    assert names <= {"python", "python3", f"python{sys.version_info.major}.{sys.version_info.minor}"} | {
        name for name in names if name.startswith(("tokio", "encaje", "sqlx"))
    }
    started.send_signal(stop)
    out, _ = started.communicate(timeout=120)
    assert started.returncode == 0 and json.loads(out)["event"] == "stopped"


def test_it_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "jobs.db", "--storage", "storage", "--json"]
    started = subprocess.Popen(
        [*program(), *words, "--stop-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert started.stdout and started.stdin
    started.stdout.readline()
    started.stdin.close()
    assert started.wait(timeout=120) == 0
    started.stdout.close()
    assert started.stderr
    started.stderr.close()


def test_the_current_directory_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "encaje.py").write_text("raise SystemExit('not the package')")
    (tmp_path / "a.txt").write_text("uno\n")
    code = "import sys; sys.path.remove(''); import encaje; print(len(encaje.run('a.txt', model=sys.argv[1], out='out')))"
    found = subprocess.run([sys.executable, "-c", code, TINY], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert found.stdout == "1\n"


def test_other_output_and_no_stderr(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("uno\n")
    (tmp_path / "sitecustomize.py").write_text("print('noise')")
    code = "import encaje, sys; sys.stderr = None; print(len(encaje.run('a.txt', model=sys.argv[1], out='out')))"
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    found = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code, TINY],
        capture_output=True, text=True, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert found.stdout == "noise\n1\n" and "ResourceWarning" not in found.stderr


def test_importing_the_package_does_not_import_numpy() -> None:
    code = "import sys, encaje.__main__; print(sorted({'numpy', 'pandas', 'pyarrow'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert found.stdout == "[]\n"
