"""The program as a process of its own: what is large does not burden, and cannot end, the process that wants it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from encaje import _errors
from encaje._progress import Bars

_ROOT = str(Path(__file__).absolute().parent.parent)
_START = f"import sys; sys.path.insert(0, {_ROOT!r}); from encaje.__main__ import main; main()"
# How the program is started by itself. It needs this package alone, and nothing of the environment's or the current directory's
# that may have the same name.
COMMAND = [sys.executable or "", "-I", "-S", "-c", _START]
#: Options that are repeated for each of several values: paths may have commas.
_REPEATED = ("reuse",)
#: The exit code of a command that did its work, but rows are missing.
_INCOMPLETE = 3


def paths(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return one or several paths or URLs as words of a command line."""
    words = [os.fspath(given)] if isinstance(given, (str, os.PathLike)) else [os.fspath(one) for one in given]
    if not words:
        raise _errors.UsageError("no corpus was given")
    if any(word in ("-", "/dev/stdin") for word in words):
        raise _errors.UsageError("standard input is the command's alone", ["write the texts to a file first"])
    return words


def options(**given: Any) -> list[str]:
    """Return keyword arguments as options: ``text_column="x"`` is ``--text-column=x``. None and False are left out."""
    words = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        # A scalar of NumPy is a number like others.
        value = value.item() if hasattr(value, "item") and not isinstance(value, str) else value
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (str, os.PathLike, int, float)):
            words.append(f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
        elif name in _REPEATED:
            words += [f"{flag}={os.fspath(one)}" for one in value]
        else:
            words.append(f"{flag}={_list(flag, value)}")
    return words


def _list(flag: str, values: Iterable[object]) -> str:
    words = [str(value) for value in values]
    for word in words:
        if "," in word:
            raise _errors.UsageError(f"{flag}: `{word}` has a comma, which separates names")
    # No column at all is a choice too.
    return ",".join(words) or "none"


def switches(**given: bool | None) -> tuple[list[str], dict[str, str]]:
    """Return flags that are on as options, and those that are off as variables, which win over `encaje.toml`."""
    on = [name for name, value in given.items() if value]
    off = [name for name, value in given.items() if value is not None and not value]
    return options(**dict.fromkeys(on, True)), {f"ENCAJE_{name.upper()}": "false" for name in off}


def call(
    *words: str,
    targets: Iterable[str] = (),
    progress: bool | None = None,
    notes: bool = False,
    environment: Mapping[str, str] | None = None,
    on_value: Callable[[Any, Bars], None] = lambda value, bars: None,
) -> tuple[Any, bool]:
    """Run a command on `targets` and return the last JSON value that it prints, and whether it exited with 0 or as incomplete (3).

    Warnings go to stderr, and `notes` if they are wanted. Ctrl-C is passed on, and raised when the command has ended. ``on_value`` gets every value
    when it is printed.

    Raises
    ------
    Error
        The one that the command reports. ``error.output`` is what it printed before.
    """
    if not sys.executable:
        raise _errors.Error("the program cannot be started: Python does not know its own (sys.executable)")
    command = [*COMMAND, *words, "--json", "--message-format=json", "--stop-with-stdin", "--", *targets]
    try:
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            # Ctrl-C in a terminal is for this process, which passes it on.
            start_new_session=True,
        )
    except OSError as failure:
        if failure.errno != errno.E2BIG:
            raise
        raise _errors.UsageError("the names are too long for one command", ["a glob names many files at once"]) from None
    assert started.stdin and started.stdout and started.stderr
    bars = Bars(progress)
    listener = _Listener(bars, notes)
    values: list[Any] = []

    def read(stream: Iterable[bytes]) -> None:
        for line in stream:
            try:
                values.append(json.loads(line))
            except ValueError:
                # Not of the command.
                continue
            on_value(values[-1], bars)
            del values[:-1]

    reader = threading.Thread(target=read, args=(started.stdout,), daemon=True)
    reader.start()
    interrupted = False
    try:
        while True:
            try:
                for line in started.stderr:
                    listener.hear(line)
                code = started.wait()
                break
            except KeyboardInterrupt:
                # The first lets it end well, the second at once.
                started.send_signal(signal.SIGTERM if interrupted else signal.SIGINT)
                interrupted = True
    except BaseException:
        started.kill()
        raise
    finally:
        started.stdin.close()
        reader.join()
        started.stdout.close()
        started.stderr.close()
        bars.close()
    if interrupted:
        raise KeyboardInterrupt
    value = values[0] if values else None
    if code in (0, _INCOMPLETE):
        return value, code == 0
    error = listener.error(code)
    error.output = value
    raise error


class _Listener:
    """Takes what a command writes on stderr."""

    def __init__(self, bars: Bars, notes: bool) -> None:
        self.bars = bars
        self._notes = notes
        self._said: _errors.Error | None = None
        self._lines: list[str] = []

    def hear(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\n")
        try:
            message = json.loads(text)
            kind = message["message"]
        except (ValueError, KeyError, TypeError):
            # A log, a panic, or a usage error, which comes before messages do.
            self._lines.append(text)
            return
        if kind == "error":
            self._said = _errors.BY_KIND[message["kind"]](message["text"], message["hints"])
        elif kind == "progress":
            total = message["total"]
            details = {} if total is not None else {"planned": message["planned"]}
            self.bars.update(message["what"], message["rows"], total, " rows", **details)
        elif kind == "download":
            self.bars.update(message["file"], message["bytes"], message["total"], "B")
        elif kind == "warning":
            self.bars.write("warning: " + message["text"])
        elif self._notes:
            self.bars.write(message["text"])

    def error(self, code: int) -> _errors.Error:
        if self._said is not None:
            return self._said
        text = "\n".join(self._lines).strip()
        if code == 2:
            return _errors.UsageError(text.removeprefix("error: ").partition("\n\nUsage:")[0].partition("\n\nFor more")[0])
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return _errors.Error(f"the process ended with {how}" + (f": {text}" if text else ""))
