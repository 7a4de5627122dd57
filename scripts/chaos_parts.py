"""The parts of a real cluster: restarted processes, and a client that retries until it gets an answer."""

import hashlib
import os
import signal
import subprocess
import sys
import time


class Daemon:
    """A process of the cluster that is restarted whenever it has exited."""

    def __init__(self, name, command, folder, environment=None):
        self.name, self.command, self.log = name, [str(word) for word in command], folder / f"{name}.log"
        self.environment = {**os.environ, **(environment or {})}
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=self.log.with_suffix(".out").open("a"), stderr=self.log.open("a"), env=self.environment)

    def ensure(self):
        if self.process.poll() is not None:
            self.start()

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def pause(self, seconds):
        self.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(signal.SIGCONT)


class Client:
    """A client of a cluster: has `encaje`, the program, `urls`, the coordinators, and `ensure`, which restarts ended processes."""

    def ask(self, *arguments, seconds=60):
        """Runs a command of the cluster until it succeeds, since coordinators are killed."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            code, out, said = self.try_once(*arguments, seconds=seconds)
            if code == 0:
                return out
            self.ensure()
            time.sleep(0.3)
        sys.exit(f"{' '.join(arguments)} did not succeed within {seconds} s:\n{said}")

    def try_once(self, *arguments, seconds=60, coordinators=None):
        command = [self.encaje, *arguments, "--coordinator", coordinators or self.urls]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, "", "no end"
        return done.returncode, done.stdout, done.stderr


def first_line(file, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if "\n" in (text := file.read_text()):
            return text.splitlines()[0]
        time.sleep(0.05)
    sys.exit(f"nothing stands in {file}")


def vectors_of(encaje, target, file):
    """Returns the digest of the vectors of an output, in row order, writing them to a file on the way."""
    file.unlink(missing_ok=True)
    command = [encaje, "export", str(target), "--format", "npy", "--out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return hashlib.sha256(file.read_bytes()).hexdigest()
