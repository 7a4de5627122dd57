#!/usr/bin/env python3
"""Kills, stops and restarts the processes of a real cluster at random while it works, and proves the results.

python3 scripts/chaos.py --encaje BIN --model DIR --corpus FILE... [--events 100] [--seed 1] [--shard-rows 50]

A PostgreSQL of its own, two coordinators, three workers and one job after the other. Every event is one of: kill -9 of a
worker or a coordinator; SIGTERM of a worker; a worker or coordinator stopped (SIGSTOP) for longer than a lease lives and
then let go on; a fast or an immediate restart of PostgreSQL, or a pause of it. Then everything is brought up, each job must
succeed, and each result is downloaded, verified against the corpus, and compared with an undisturbed `encaje run`, number by
number. Exit code 0 means that no row was lost, doubled or different. The seed gives the same events, though not the same
interleaving.
"""

import argparse
import hashlib
import json
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LEASE_SECONDS = 2.0
WORKERS, COORDINATORS = 3, 2


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Postgres:
    """A server with its data in a folder, run as the user `postgres` where we are root."""

    def __init__(self, folder):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
        self.programs = found[-1].parent if found else pathlib.Path(shutil.which("pg_ctl") or sys.exit("PostgreSQL is not installed: run make setup")).parent
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        self.account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        folder.mkdir(mode=0o755)
        if self.account:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid)
        self.call("initdb", "--username=encaje", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", self.data)
        self.start()

    def call(self, program, *arguments):
        user = {"user": self.account.pw_uid, "group": self.account.pw_gid} if self.account else {}
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **user)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=on"
        self.call("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self, mode):
        self.call("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def url(self):
        return f"postgres://encaje@127.0.0.1:{self.port}/postgres"


class Daemon:
    """A process of the cluster that is started again whenever it has ended."""

    def __init__(self, name, command, folder):
        self.name, self.command, self.log = name, command, folder / f"{name}.log"
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=self.log.open("a"))

    def ensure(self):
        if self.process.poll() is not None:
            self.start()

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)


class Cluster:
    def __init__(self, args, folder):
        self.encaje, self.folder = args.encaje, folder
        self.postgres = Postgres(folder / "postgres")
        ports = [free_port() for _ in range(COORDINATORS)]
        self.urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.coordinators = [Daemon(f"coordinator-{number}", [
            args.encaje, "coordinator", "--listen", f"127.0.0.1:{port}", "--database", self.postgres.url(), "--storage",
            str(folder / "storage"), "--lease-ttl", f"{LEASE_SECONDS:.0f}s"], folder) for number, port in enumerate(ports)]
        time.sleep(1)
        self.workers = [Daemon(f"worker-{number}", [
            args.encaje, "worker", "--coordinator", self.urls, "--threads", "1", "--spool", str(folder / f"spool-{number}")],
            folder) for number in range(WORKERS)]

    def ask(self, *arguments, seconds=60):
        """Runs a command of the cluster until it succeeds: coordinators come and go."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            command = [self.encaje, *arguments, "--coordinator", self.urls]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                return done.stdout
            said = done.stderr
            self.ensure()
            time.sleep(0.3)
        sys.exit(f"{' '.join(arguments)} did not succeed within {seconds} s:\n{said}")

    def ensure(self):
        for daemon in [*self.coordinators, *self.workers]:
            daemon.ensure()

    def disturb(self, chance):
        """Does one thing to one process; returns what."""
        worker, coordinator = chance.choice(self.workers), chance.choice(self.coordinators)
        event = chance.choices(
            ["kill worker", "terminate worker", "stop worker", "kill coordinator", "stop coordinator", "restart database",
             "crash database", "pause database"], weights=[34, 8, 12, 24, 8, 5, 5, 4])[0]
        match event:
            case "kill worker":
                worker.signal(signal.SIGKILL)
            case "terminate worker":
                worker.signal(signal.SIGTERM)
            case "kill coordinator":
                coordinator.signal(signal.SIGKILL)
            case "stop worker" | "stop coordinator":
                stopped = worker if event == "stop worker" else coordinator
                stopped.signal(signal.SIGSTOP)
                time.sleep(LEASE_SECONDS * chance.uniform(0.5, 2))
                stopped.signal(signal.SIGCONT)
            case "restart database" | "crash database" | "pause database":
                self.postgres.stop("fast" if event == "restart database" else "immediate")
                time.sleep(LEASE_SECONDS * 1.5 if event == "pause database" else 0)
                self.postgres.start()
        return event

    def end(self):
        for daemon in [*self.workers, *self.coordinators]:
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGKILL)
        self.postgres.stop("immediate")


def vectors_of(encaje, target, file):
    """The digest of the vectors of an output, in row order."""
    if file.exists():
        file.unlink()
    subprocess.run([encaje, "export", str(target), "--format", "npy", "--out", str(file)], check=True, capture_output=True)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def prove(args, cluster, job, expected, folder):
    """Downloads a job's result and checks it in every way; returns its number of rows."""
    cluster.ask("download", job, "--wait", "--out", str(folder / job), seconds=args.settle_seconds)
    command = [args.encaje, "verify", str(folder / job), "--json", "--corpus", *args.corpus]
    verified = subprocess.run(command, capture_output=True, text=True)
    if verified.returncode:
        sys.exit(f"job {job} does not verify:\n{verified.stdout}{verified.stderr}")
    if vectors_of(args.encaje, folder / job, folder / "vectors.npy") != expected:
        sys.exit(f"job {job} verifies, but its vectors are not those of an undisturbed run")
    manifest = json.loads((folder / job / "manifest.json").read_text())
    shutil.rmtree(folder / job)
    return manifest["totals"]["rows"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True, nargs="+")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-rows", type=int, default=50)
    parser.add_argument("--settle-seconds", type=int, default=300)
    args = parser.parse_args()
    args.encaje, args.model = os.path.abspath(args.encaje), os.path.abspath(args.model)
    args.corpus = [os.path.abspath(path) for path in args.corpus]

    chance, started = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="encaje-chaos-") as temporary:
        folder = pathlib.Path(temporary)
        folder.chmod(0o755)
        options = [*args.corpus, "--model", args.model, "--shard-rows", str(args.shard_rows)]
        subprocess.run([args.encaje, "run", *options, "--out", str(folder / "alone")], check=True, capture_output=True)
        expected = vectors_of(args.encaje, folder / "alone", folder / "vectors.npy")
        cluster, jobs, counts = Cluster(args, folder), [], {}
        try:
            job = cluster.ask("submit", *options, "--again").strip()
            for number in range(args.events):
                time.sleep(chance.uniform(0.05, 0.8))
                cluster.ensure()
                event = cluster.disturb(chance)
                counts[event] = counts.get(event, 0) + 1
                status = json.loads(cluster.ask("status", job, "--json"))
                if status["state"] in ("failed", "cancelled"):
                    sys.exit(f"after event {number} ({event}) job {job} is {status['state']}: {status.get('reason')}")
                if status["state"] == "succeeded":
                    jobs.append(job)
                    job = cluster.ask("submit", *options, "--again").strip()
            cluster.ensure()
            rows = sum(prove(args, cluster, job, expected, folder) for job in [*jobs, job])
        except SystemExit:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            cluster.end()
    told = ", ".join(f"{count} x {event}" for event, count in sorted(counts.items()))
    print(f"{args.events} events in {time.monotonic() - started:.0f} s (seed {args.seed}): {told}")
    print(f"{len(jobs) + 1} jobs, {rows} rows: each verified against its corpus and equal to an undisturbed run")


main()
