#!/usr/bin/env python3
"""Kills, stops and restarts the processes of a real cluster at random while it works, breaks what is between them, damages
what they made, and proves the results.

python3 scripts/chaos.py --encaje BIN --model DIR --corpus FILE... [--s3-server BIN] [--events 100] [--seed 1]
    [--shard-rows 50]

A PostgreSQL of its own, two coordinators, three workers and one job after the other; storage is a folder, or a bucket of the
S3 server given. Events: kill -9 of a worker, a coordinator or the S3 server; SIGTERM of a worker; any of them stopped
(SIGSTOP) for longer than a lease lives; a fast or an immediate restart of PostgreSQL, or a pause of it; the TCP links from
workers to a coordinator, or from a coordinator to PostgreSQL, cut, held back, or black-holed; a worker's disk full. Then
everything is brought up, and each job must succeed. Of every second one an output file is damaged in storage: the download
must name it, and repair must heal it. Each result is downloaded, verified against the corpus, and compared with an
undisturbed `encaje run`, number by number; of every second one a byte is then flipped, which verify must name. Exit code 0
means that no row was lost, doubled or different. The seed gives the same events, though not the same interleaving.
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

from chaos_links import Link, SmallDisk

LEASE_SECONDS = 2.0
WORKERS, COORDINATORS = 3, 2
EVENTS = {
    "kill worker": 30, "terminate worker": 6, "stop worker": 10, "kill coordinator": 20, "stop coordinator": 6,
    "restart database": 4, "crash database": 4, "pause database": 3, "kill storage": 4, "stop storage": 3,
    "cut worker link": 5, "hold worker link": 4, "swallow worker link": 4, "cut database link": 4, "hold database link": 3,
    "swallow database link": 3, "fill disk": 4,
}


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


class Daemon:
    """A process of the cluster that is started again whenever it has ended."""

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


class Cluster:
    def __init__(self, args, folder):
        self.encaje, self.folder = args.encaje, folder
        self.postgres = Postgres(folder / "postgres")
        self.storage, self.files, environment = None, folder / "storage", {}
        storage = str(self.files)
        if args.s3_server:
            self.storage = Daemon("storage", [args.s3_server, folder / "s3", f"127.0.0.1:{free_port()}"], folder)
            environment = json.loads(first_line(folder / "storage.out"))
            self.files, storage = folder / "s3" / "lake" / "results", "s3://lake/results"
        ports = [free_port() for _ in range(COORDINATORS)]
        self.urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.worker_links = [Link(port) for port in ports]
        self.database_links = [Link(self.postgres.port) for _ in ports]
        self.coordinators = [Daemon(f"coordinator-{number}", [
            args.encaje, "coordinator", "--listen", f"127.0.0.1:{port}", "--database",
            f"postgres://encaje@127.0.0.1:{link.port}/postgres", "--storage", storage, "--lease-ttl",
            f"{LEASE_SECONDS:.0f}s"], folder, environment)
            for number, (port, link) in enumerate(zip(ports, self.database_links))]
        time.sleep(1)
        self.disks = [SmallDisk(folder / f"spool-{number}") for number in range(WORKERS)]
        urls = ",".join(f"http://127.0.0.1:{link.port}" for link in self.worker_links)
        self.workers = [Daemon(f"worker-{number}", [
            args.encaje, "worker", "--coordinator", urls, "--threads", "1", "--spool", disk.folder],
            folder, environment) for number, disk in enumerate(self.disks)]
        self.events = dict(EVENTS)
        if not self.disks[0].mounted:
            print("no full disks: mounting a small one is not allowed here", file=sys.stderr)
            del self.events["fill disk"]
        if not self.storage:
            self.events = {event: weight for event, weight in self.events.items() if not event.endswith("storage")}

    def ask(self, *arguments, seconds=60):
        """Runs a command of the cluster until it succeeds: coordinators come and go."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            code, out, said = self.try_once(*arguments, seconds=seconds)
            if code == 0:
                return out
            self.ensure()
            time.sleep(0.3)
        sys.exit(f"{' '.join(arguments)} did not succeed within {seconds} s:\n{said}")

    def try_once(self, *arguments, seconds=60):
        command = [self.encaje, *arguments, "--coordinator", self.urls]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, "", "no end"
        return done.returncode, done.stdout, done.stderr

    def status(self, job):
        """How a job stands. One that the breaker has paused goes on: what it stumbled over was our doing."""
        status = json.loads(self.ask("status", job, "--json"))
        if status.get("paused"):
            self.ask("resume", job)
        return status

    def ensure(self):
        for daemon in [*([self.storage] if self.storage else []), *self.coordinators, *self.workers]:
            daemon.ensure()

    def disturb(self, chance):
        """Does one thing to one part; returns what."""
        event = chance.choices(list(self.events), weights=list(self.events.values()))[0]
        verb, what = event.split(" ", 1)
        seconds = LEASE_SECONDS * chance.uniform(0.5, 2)
        target = chance.choice({
            "worker": self.workers, "coordinator": self.coordinators, "storage": [self.storage], "disk": self.disks,
            "database": [self.postgres], "worker link": self.worker_links, "database link": self.database_links}[what])
        match verb, what:
            case "kill", _:
                target.signal(signal.SIGKILL)
            case "terminate", _:
                target.signal(signal.SIGTERM)
            case "stop", _:
                target.pause(seconds)
            case "cut", _:
                target.cut()
            case "swallow", _:
                target.swallow()
            case "hold", _:
                target.hold(seconds)
            case "fill", _:
                target.fill(seconds / 2)
            case _, "database":
                target.stop("fast" if verb == "restart" else "immediate")
                time.sleep(LEASE_SECONDS * 1.5 if verb == "pause" else 0)
                target.start()
        return event

    def damage(self, chance, job):
        """Damages one output file of a finished job in storage; returns its key and how."""
        manifests = sorted(self.files.glob(f"jobs/{job}/manifest-*.json"), key=lambda path: int(path.stem.split("-")[1]))
        key = chance.choice(json.loads(manifests[-1].read_text())["files"])["name"]
        how = chance.choice(["flip", "cut", "remove"])
        if how == "remove":
            (self.files / key).unlink()
        else:
            spoil(self.files / key, chance, cut=how == "cut")
        return key, how

    def end(self):
        for daemon in [*self.workers, *self.coordinators, *([self.storage] if self.storage else [])]:
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGKILL)
            daemon.process.wait()
        for disk in self.disks:
            disk.unmount()
        self.postgres.stop("immediate")


def first_line(file, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if "\n" in (text := file.read_text()):
            return text.splitlines()[0]
        time.sleep(0.05)
    sys.exit(f"nothing stands in {file}")


def spoil(file, chance, cut=False):
    """Flips one bit of a file, or cuts its end off."""
    content = bytearray(file.read_bytes())
    if cut:
        content = content[:-1]
    else:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def vectors_of(encaje, target, file):
    """The digest of the vectors of an output, in row order."""
    if file.exists():
        file.unlink()
    subprocess.run([encaje, "export", str(target), "--format", "npy", "--out", str(file)], check=True, capture_output=True)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def expect_refusal(what, code, said, name):
    if code != 1 or name not in said:
        sys.exit(f"{what}: expected a refusal that names {name}, found code {code}:\n{said}")


class Proof:
    """What is checked of every job, and how often it was."""

    def __init__(self, args, cluster, expected, folder):
        self.args, self.cluster, self.expected, self.folder = args, cluster, expected, folder
        self.rows, self.jobs, self.healed, self.named = 0, 0, 0, 0

    def of(self, job, chance):
        """Downloads a job's result and checks it in every way; of every second one, damaged before and after."""
        out, spoils = self.folder / job, self.jobs % 2 == 0
        self.settle(job)
        if spoils:
            key, how = self.cluster.damage(chance, job)
            code, _, said = self.cluster.try_once("download", job, "--out", str(out))
            expect_refusal(f"download of job {job} ({how})", code, said, key if how != "remove" else key.split("/e0")[0])
            self.cluster.ask("repair", job)
            self.settle(job)
            self.healed += 1
        self.download(job, out)
        code, said = self.verify(out)
        if code:
            sys.exit(f"job {job} does not verify:\n{said}")
        if vectors_of(self.args.encaje, out, self.folder / "vectors.npy") != self.expected:
            sys.exit(f"job {job} verifies, but its vectors are not those of an undisturbed run")
        if spoils:
            part = chance.choice(sorted(out.glob("part-*.parquet")))
            spoil(part, chance)
            code, said = self.verify(out)
            expect_refusal(f"verify of job {job}", code, said, part.name)
            self.download(job, out)
            if self.verify(out)[0]:
                sys.exit(f"job {job} does not verify after its damaged part was fetched again")
            self.named += 1
        self.rows += json.loads((out / "manifest.json").read_text())["totals"]["rows"]
        self.jobs += 1
        shutil.rmtree(out)

    def settle(self, job):
        deadline = time.monotonic() + self.args.settle_seconds
        while (status := self.cluster.status(job))["state"] != "succeeded":
            if status["state"] in ("failed", "cancelled") or time.monotonic() > deadline:
                sys.exit(f"job {job} does not end well: {json.dumps(status)}")
            self.cluster.ensure()
            time.sleep(0.2)

    def download(self, job, out):
        self.cluster.ask("download", job, "--wait", "--out", str(out), seconds=self.args.settle_seconds)

    def verify(self, out):
        command = [self.args.encaje, "verify", str(out), "--json", "--corpus", *self.args.corpus]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def rage(args, cluster, chance, options):
    """Disturbs the cluster while it does one job after the other; returns the jobs and what was done."""
    jobs, counts = [], {}
    job = cluster.ask("submit", *options, "--again").strip()
    for number in range(args.events):
        time.sleep(chance.uniform(0.05, 0.8))
        cluster.ensure()
        event = cluster.disturb(chance)
        counts[event] = counts.get(event, 0) + 1
        status = cluster.status(job)
        if status["state"] in ("failed", "cancelled"):
            sys.exit(f"after event {number} ({event}) job {job} is {status['state']}: {status.get('reason')}")
        if status["state"] == "succeeded":
            jobs.append(job)
            job = cluster.ask("submit", *options, "--again").strip()
    return [*jobs, job], counts


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True, nargs="+")
    parser.add_argument("--s3-server")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-rows", type=int, default=50)
    parser.add_argument("--settle-seconds", type=int, default=300)
    args = parser.parse_args()
    args.encaje, args.model = os.path.abspath(args.encaje), os.path.abspath(args.model)
    args.corpus = [os.path.abspath(path) for path in args.corpus]
    args.s3_server = args.s3_server and os.path.abspath(args.s3_server)
    return args


def main():
    args = arguments()
    chance, started = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="encaje-chaos-") as temporary:
        folder = pathlib.Path(temporary)
        folder.chmod(0o755)
        options = [*args.corpus, "--model", args.model, "--shard-rows", str(args.shard_rows)]
        subprocess.run([args.encaje, "run", *options, "--out", str(folder / "alone")], check=True, capture_output=True)
        expected = vectors_of(args.encaje, folder / "alone", folder / "vectors.npy")
        cluster = Cluster(args, folder)
        proof = Proof(args, cluster, expected, folder)
        try:
            jobs, counts = rage(args, cluster, chance, options)
            cluster.ensure()
            for job in jobs:
                proof.of(job, chance)
        except SystemExit:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            cluster.end()
    told = ", ".join(f"{count} x {event}" for event, count in sorted(counts.items()))
    kills = sum(count for event, count in counts.items() if event.startswith("kill"))
    print(f"{args.events} events, {kills} of them kills, in {time.monotonic() - started:.0f} s (seed {args.seed}): {told}")
    print(f"{proof.jobs} jobs, {proof.rows} rows: each verified against its corpus and equal to an undisturbed run")
    print(f"{proof.healed} damaged files in storage were named and made again, {proof.named} damaged downloads were named "
          "and fetched again")


main()
