#!/usr/bin/env python3
"""Upgrades clusters from one release to the next while their processes are killed, and verifies the results.

python3 scripts/upgrade.py --old BIN --new BIN --model DIR --corpus FILE.csv [--events 100] [--seed 1] [--shard-rows 8]

Each way of rolling has a database of its own on one PostgreSQL, two coordinators and three workers of the old release, and
three jobs in flight: one that every release knows, and two with an option that only new workers may serve, of which one has a
header so wide that workers fetch it apart from their shards. Between one replacement and the next, processes of both releases are killed or told to stop, and started again as they were; clients of
both submit and download. At the end each job must have succeeded, each result is verified against its corpus by the new
release, and no shard of a job with the new option may ever have been leased by an old worker. Then the same for SQLite: a
database and an output directory that the old release left behind, and what the old release does with them afterwards. Exit
code 0 means that no row was lost, doubled or different.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

from chaos_corpora import texts_of, wide_corpus
from chaos_links import free_port
from chaos_parts import Client, Daemon, vectors_of
from chaos_postgres import Postgres

LEASE_SECONDS = 2.0
COORDINATORS, WORKERS = ["c0", "c1"], ["w0", "w1", "w2"]
# The order of replacement: `c2+` adds a coordinator, `c0-` downgrades to the old release.
WAYS = {
    "coordinators first": [*COORDINATORS, *WORKERS],
    "workers first": [*WORKERS, *COORDINATORS],
    "a new coordinator beside the old": ["c2+", *WORKERS, *COORDINATORS],
    "mixed, one of each back and again": ["c0", "w0", "c0-", "w1", "c1", "w0-", "c0", "w2", "w0"],
}
# The option that only new workers support.
NEW_OPTION = ["--delimiter", ";"]


class Corpus:
    """A file, how it is read, and the result of an undisturbed run."""

    def __init__(self, args, file, options, is_for_all, folder):
        self.file, self.options, self.is_for_all = str(file), options, is_for_all
        self.job = [self.file, *options, "--model", args.model, "--shard-rows", str(args.shard_rows)]
        digests = set()
        for age, program in (("old", args.old), ("new", args.new)):
            out = folder / f"alone-{age}-{pathlib.Path(file).name}"
            subprocess.run([program, "run", *self.job, "--out", str(out)], check=True, capture_output=True)
            digests.add(vectors_of(args.new, out, folder / "vectors.npy"))
            self.rows = rows_of(out)
        # If releases compute different vectors, each row may be of either.
        self.expected = digests.pop() if len(digests) == 1 else None


class Slot(Daemon):
    """A process of either release."""

    def __init__(self, name, programs, folder, options, age):
        self.slot, self.programs, self.options, self.age = name, programs, options, age
        super().__init__(name, self.words(), folder)

    def words(self):
        what = ["worker", "--name", f"{self.age}-{self.slot}"] if self.slot[0] == "w" else ["coordinator"]
        return [self.programs[self.age], *what, *self.options]

    def become(self, age, how):
        self.signal(how)
        self.process.wait(timeout=60)
        self.age = age
        self.command = [str(word) for word in self.words()]
        self.start()


class Cluster(Client):
    def __init__(self, args, folder, postgres, database):
        self.programs, self.folder = {"old": args.old, "new": args.new}, folder
        self.encaje, self.postgres, self.database = args.new, postgres, database
        postgres.say(f"CREATE DATABASE {database}")
        self.ports = {name: free_port() for name in [*COORDINATORS, "c2"]}
        self.urls = ",".join(f"http://127.0.0.1:{port}" for port in self.ports.values())
        self.slots = {}
        for name in COORDINATORS:
            self.add(name)
        time.sleep(1)
        for name in WORKERS:
            self.add(name)

    def add(self, name, age="old"):
        if name[0] == "w":
            options = ["--coordinator", self.urls, "--threads", "1", "--spool", self.folder / f"spool-{name}"]
        else:
            options = [
                "--listen", f"127.0.0.1:{self.ports[name]}", "--storage", self.folder / "storage", "--lease-ttl",
                f"{LEASE_SECONDS:.0f}s", "--database",
                f"postgres://encaje@127.0.0.1:{self.postgres.port}/{self.database}"]
        self.slots[name] = Slot(name, self.programs, self.folder, options, age)

    def ensure(self):
        for slot in self.slots.values():
            slot.ensure()

    def replace(self, step, chance):
        """Switches one process to the other release, by SIGTERM or SIGKILL."""
        name, how = step.rstrip("+-"), chance.choice([signal.SIGKILL, signal.SIGTERM])
        if step.endswith("+"):
            self.add(name, "new")
        else:
            self.slots[name].become("old" if step.endswith("-") else "new", how)

    def urls_of(self, age):
        return ",".join(f"http://127.0.0.1:{self.ports[name]}"
                        for name, slot in self.slots.items() if name[0] == "c" and slot.age == age)

    def by(self, age, urls, *arguments):
        """As `ask`, by a client of one release, to some of the coordinators."""
        client = Client()
        client.encaje, client.urls, client.ensure = self.programs[age], urls, self.ensure
        return client.ask(*arguments)

    def status(self, job):
        """Returns the state of a job, resuming it if the breaker paused it because of our faults."""
        status = json.loads(self.ask("status", job, "--json"))
        if status["paused"]:
            self.ask("resume", job)
        return status

    def number(self, sql):
        return int(self.postgres.say(sql, self.database))

    def leased(self, age, only=""):
        """Returns the number of leases granted to workers of a release."""
        return self.number("SELECT count(*) FROM attempt a JOIN session s ON s.session_id = a.session_id JOIN job j "
                           f"ON j.job_id = a.job_id WHERE s.name LIKE '{age}-%' {only}")

    def end(self):
        for slot in self.slots.values():
            slot.signal(signal.SIGKILL)
            slot.process.wait()


class Way:
    """One order of upgrading, its jobs and their results."""

    def __init__(self, args, cluster, corpora, folder, seed):
        self.args, self.cluster, self.corpora, self.folder = args, cluster, corpora, folder
        self.chance, self.jobs, self.flying = random.Random(seed), {}, {}
        self.events = self.kills = self.waited = 0

    def submit(self):
        """Keeps a job of each kind running, if a coordinator supports it."""
        for kind, corpus in self.corpora.items():
            age = self.chance.choice(["old", "new"]) if corpus.is_for_all else "new"
            urls = self.cluster.urls if corpus.is_for_all else self.cluster.urls_of("new")
            if urls and kind not in self.flying:
                job = self.cluster.by(age, urls, "submit", *corpus.job, "--again").strip()
                self.flying[kind], self.jobs[job] = job, corpus

    def look(self):
        """Updates the states of running jobs; returns their number."""
        for kind, job in list(self.flying.items()):
            status = self.cluster.status(job)
            if status["state"] in ("failed", "cancelled"):
                sys.exit(f"after {self.events} events job {job} ({kind}) is {status['state']}: {status.get('reason')}")
            if status["state"] == "succeeded":
                del self.flying[kind]
            # Of a coordinator that does not know the field yet, there is none.
            outdated = status.get("workers_outdated", 0)
            if outdated and outdated == status["workers"]:
                self.waited += 1
        return len(self.flying)

    def disturb(self):
        time.sleep(self.chance.uniform(0.05, 0.6))
        self.cluster.ensure()
        slot = self.chance.choice(list(self.cluster.slots.values()))
        kills = self.chance.random() < 0.8
        slot.signal(signal.SIGKILL if kills else signal.SIGTERM)
        self.events, self.kills = self.events + 1, self.kills + kills

    def roll(self, steps, events):
        for number, step in enumerate([*steps, None]):
            for _ in range(events * (number + 1) // (len(steps) + 1) - events * number // (len(steps) + 1)):
                self.submit()
                self.disturb()
                self.look()
            if step:
                self.cluster.ensure()
                self.cluster.replace(step, self.chance)
        deadline = time.monotonic() + self.args.settle_seconds
        self.submit()
        while self.look():
            if time.monotonic() > deadline:
                sys.exit(f"jobs do not end: {self.flying}")
            self.cluster.ensure()
            time.sleep(0.2)

    def prove(self):
        """Downloads and verifies every result; returns the number of rows."""
        rows = 0
        for job, corpus in self.jobs.items():
            out = self.folder / job
            age = self.chance.choice(["old", "new"])
            self.cluster.by(age, self.cluster.urls, "download", job, "--out", str(out))
            verify(self.args.new, out, corpus)
            if corpus.expected and vectors_of(self.args.new, out, self.folder / "vectors.npy") != corpus.expected:
                sys.exit(f"job {job} verifies, but its vectors are not those of an undisturbed run")
            rows += rows_of(out)
            shutil.rmtree(out)
        return rows


def rows_of(out):
    return json.loads((out / "manifest.json").read_text())["totals"]["rows"]


def verify(encaje, out, corpus):
    command = [encaje, "verify", str(out), "--json", "--corpus", corpus.file, *corpus.options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{out} does not verify:\n{done.stdout}{done.stderr}")


def rolled(args, postgres, corpora, folder, number, name):
    """Upgrades one cluster in one order; returns its line of the table."""
    folder.mkdir(mode=0o755)
    cluster = Cluster(args, folder, postgres, f"way_{number}")
    way = Way(args, cluster, corpora, folder, args.seed * 100 + number)
    try:
        way.roll(WAYS[name], args.events // len(WAYS))
        wrong = cluster.leased("old", "AND j.revision > 0")
        doubled = cluster.number("SELECT count(*) FROM (SELECT 1 FROM attempt WHERE state = 'committed' "
                                 "GROUP BY job_id, shard_index HAVING count(*) > 1) twice")
        old, new = cluster.leased("old"), cluster.leased("new")
        rows = way.prove()
    except SystemExit:
        for log in sorted(folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-2500:]}", file=sys.stderr)
        raise
    finally:
        cluster.end()
    if wrong:
        sys.exit(f"{name}: old workers were given {wrong} shards that they would have read wrongly")
    expected = sum(corpus.rows for corpus in way.jobs.values())
    return [name, way.events, way.kills, len(way.jobs), rows, max(0, expected - rows), max(0, rows - expected) + doubled,
            old, new, way.waited]


class Alone(Client):
    """A coordinator with SQLite, of one release, and at most one worker."""

    def __init__(self, args, folder, age):
        self.encaje, self.folder, port = {"old": args.old, "new": args.new}[age], folder, free_port()
        self.urls, self.worker = f"http://127.0.0.1:{port}", None
        self.coordinator = Daemon(f"{age}-coordinator", [
            self.encaje, "coordinator", "--listen", f"127.0.0.1:{port}", "--database", folder / "state.db", "--storage",
            folder / "storage", "--lease-ttl", f"{LEASE_SECONDS:.0f}s"], folder)

    def ensure(self):
        if self.coordinator.process.poll() is not None:
            sys.exit(f"the coordinator ended:\n{self.coordinator.log.read_text()[-2000:]}")

    def with_worker(self):
        self.worker = Daemon("worker", [
            self.encaje, "worker", "--coordinator", self.urls, "--threads", "1", "--spool", self.folder / "spool"],
            self.folder)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for daemon in [self.worker, self.coordinator]:
            if daemon:
                daemon.signal(signal.SIGKILL)
                daemon.process.wait()

    def until_done(self, job, seconds=120):
        deadline = time.monotonic() + seconds
        while json.loads(self.ask("status", job, "--json"))["state"] != "succeeded":
            if time.monotonic() > deadline:
                sys.exit(f"job {job} does not end: {self.ask('status', job)}")
            time.sleep(0.2)


def on_sqlite(args, corpora, folder):
    """Upgrades a database from the old release and downgrades it again; returns the findings as sentences."""
    folder.mkdir(mode=0o755)
    plain, dialect = corpora["plain"], corpora["dialect"]

    def check(who, job, corpus):
        out = folder / f"result-{time.monotonic_ns()}"
        who.ask("download", job, "--out", str(out))
        verify(args.new, out, corpus)
        shutil.rmtree(out)

    with Alone(args, folder, "old").with_worker() as old:
        done = old.ask("submit", *plain.job, "--again").strip()
        old.until_done(done)
        begun = old.ask("submit", *plain.job, "--again").strip()
    with Alone(args, folder, "new") as new:
        check(new, done, plain)
        later = new.ask("submit", *dialect.job, "--again").strip()
    with Alone(args, folder, "old").with_worker() as old:
        check(old, done, plain)
        old.until_done(begun)
        status = json.loads(old.ask("status", later, "--json"))
        if status["state"] != "planning" or status["shards"]["committed"]:
            sys.exit(f"the old release did not leave the job alone that it does not know: {status}")
    with Alone(args, folder, "new").with_worker() as new:
        for job, corpus in [(done, plain), (begun, plain), (later, dialect)]:
            new.until_done(job)
            check(new, job, corpus)
    with sqlite3.connect(folder / "state.db") as database:
        database.execute("UPDATE schema_compat SET oldest_schema = 9001, oldest_release = '9.0.0'")
    command = [args.old, "coordinator", "--listen", "127.0.0.1:0", "--database", folder / "state.db", "--storage",
               folder / "storage"]
    refused = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    if refused.returncode != 1 or "9.0.0 and later" not in refused.stderr:
        sys.exit(f"the old release did not refuse a contracted database: {refused.returncode} {refused.stderr}")
    return ["SQLite: the new release downloads and finishes the jobs of the old one; the old one, started again, does the same, "
            "and leaves a job alone that it does not know; the new one finishes that",
            f"SQLite, contracted: {refused.stderr.strip().splitlines()[-1]}"]


def resumed(args, corpora, folder):
    """Lets the new release resume a killed `encaje run` of the old one."""
    out = folder / "resumed"
    command = ["run", *corpora["plain"].job, "--out", str(out)]
    process = subprocess.Popen([args.old, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and not list(out.glob("**/e0*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    subprocess.run([args.new, *command], check=True, capture_output=True)
    verify(args.new, out, corpora["plain"])
    return "encaje run: the new release resumed the output of the old one, which was killed"


def corpora_of(args, folder):
    """The corpus, and others that are spelled as the new option has it: the same, and one with a wide header."""
    def spelled(file):
        other = folder / f"dialect-{pathlib.Path(file).name}"
        with open(file, newline="") as source, other.open("w", newline="") as sink:
            csv.writer(sink, delimiter=";", lineterminator="\n").writerows(csv.reader(source))
        return other

    wide = wide_corpus(folder / "wide.csv", texts_of(pathlib.Path(args.corpus)))
    return {
        "plain": Corpus(args, args.corpus, [], True, folder),
        "dialect": Corpus(args, spelled(args.corpus), NEW_OPTION, False, folder),
        "wide": Corpus(args, spelled(wide), NEW_OPTION, False, folder),
    }


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--old", required=True)
    parser.add_argument("--new", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-rows", type=int, default=8)
    parser.add_argument("--settle-seconds", type=int, default=300)
    args = parser.parse_args()
    for name in ("old", "new", "model", "corpus"):
        setattr(args, name, os.path.abspath(getattr(args, name)))
    return args


def show(lines):
    head = ["way", "events", "kills", "jobs", "rows", "lost", "doubled", "leases: old", "new", "waits for new"]
    table = [head, *[[str(cell) for cell in line] for line in lines]]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    for line in table:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(line, widths))))


def main():
    args, started = arguments(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="encaje-upgrade-") as temporary:
        folder = pathlib.Path(temporary)
        folder.chmod(0o755)
        corpora = corpora_of(args, folder)
        postgres = Postgres(folder / "postgres")
        try:
            lines = [rolled(args, postgres, corpora, folder / f"way-{number}", number, name)
                     for number, name in enumerate(WAYS)]
        finally:
            postgres.stop("immediate")
        said = [*on_sqlite(args, corpora, folder / "sqlite"), resumed(args, corpora, folder)]
    show(lines)
    print("\n".join(said))
    print(f"seed {args.seed}, {time.monotonic() - started:.0f} s")
    if any(line[5] or line[6] for line in lines):
        sys.exit("rows were lost or doubled")


main()
