"""Types: mypy finds none that is wrong, and the stub of the compiled module says what the module has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

import encaje



def mypy(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_hold(tmp_path: Path) -> None:
    mypy("mypy", "--cache-dir", str(tmp_path))


def test_the_stub_and_the_module_agree() -> None:
    mypy("mypy.stubtest", "encaje._encaje", "--mypy-config-file", "pyproject.toml")


def test_every_public_name_is_there_and_documented() -> None:
    for name in encaje.__all__:
        value = getattr(encaje, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
        for member in vars(value) if isinstance(value, type) else ():
            if not member.startswith("_") and callable(getattr(value, member)):
                assert getattr(value, member).__doc__, f"{name}.{member}"
