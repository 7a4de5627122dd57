#!/usr/bin/env python3
"""Kills, stops and restarts the processes of a real cluster at random while it works, breaks their connections, damages
their files, and verifies the results.

python3 scripts/chaos.py --encaje BIN --model DIR --corpus FILE... [--s3-server BIN] [--events 100] [--seed 1]
    [--shard-rows 50] [--only EVENTS] [--verbose]

A PostgreSQL of its own, two coordinators, six workers and one job after the other, every third over a corpus with a wide header;
storage is a folder, or a bucket of the S3 server given. Events: kill -9 of a worker, a coordinator or the S3 server, or of all
workers, or these and all coordinators, at once; SIGTERM of a worker; any of them stopped (SIGSTOP) for longer than a lease lives;
a fast or an immediate restart of PostgreSQL, a pause of it, or a failover to a standby that is read-only until it is promoted;
PostgreSQL read-only, its role without rights or login or connections, for a while; the TCP links from workers to a coordinator,
or from a coordinator to PostgreSQL, cut, held back, or black-holed; more silent connections than a coordinator has descriptors;
a worker's disk full; an empty folder in the place of the storage for a while; the corpus changed in place for a while; a bit of
an output flipped while its job is under way. Then everything is brought up, and each job must succeed; one that failed of a
change or a flip must have named it. Of every second one an output file is damaged in storage: the download must name it, and
repair must heal it. Each result is downloaded, verified against the corpus, and compared with an undisturbed `encaje run`, number
by number; of every second one a byte is then flipped, which verify must name. Exit code 0 means that no row was lost, doubled or
different. The seed gives the same events, though not the same interleaving.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from chaos_corpora import Corpus, texts_of, wide_corpus
from chaos_links import Crowd, Link, SmallDisk, free_port
from chaos_parts import Client, Daemon, first_line
from chaos_postgres import REFUSALS, ROLE, Postgres

LEASE_SECONDS = 2.0
# How long a coordinator may take to answer under many silent connections.
PATIENCE_SECONDS = 30.0
WORKERS, COORDINATORS = 6, 2
# File descriptors of a coordinator, and silent connections to each of its ports: more than these.
DESCRIPTORS, SILENT = 512, 600
# The folder of the corpus that is read in place; the wide one is uploaded.
NARROW = "narrow"
# One of so many jobs is over the wide corpus.
WIDE_EVERY = 3
EVENTS = {
    "kill worker": 30, "terminate worker": 6, "stop worker": 10, "kill coordinator": 20, "stop coordinator": 6,
    "restart database": 4, "crash database": 4, "pause database": 3, "kill storage": 4, "stop storage": 3,
    "cut worker link": 5, "hold worker link": 4, "swallow worker link": 4, "cut database link": 4, "hold database link": 3,
    "swallow database link": 3, "fill disk": 4, "readonly database": 2, "revoke database": 2, "lock-out database": 2,
    "crowd-out database": 2, "fail-over database": 3, "darken workers": 3, "darken cluster": 3, "crowd ports": 3,
    "flip output": 4, "change corpus": 3, "swap folder": 3,
}


class Cluster(Client):
    def __init__(self, args, folder):
        self.encaje, self.folder = args.encaje, folder
        self.postgres = Postgres(folder / "postgres")
        self.storage, self.files, environment = None, folder / "storage", {}
        self.flipped, self.changed, self.kills, self.mended = {}, set(), 0, {}
        storage = str(self.files)
        if args.s3_server:
            self.storage = Daemon("storage", [args.s3_server, folder / "s3", f"127.0.0.1:{free_port()}"], folder)
            environment = json.loads(first_line(folder / "storage.out"))
            self.files, storage = folder / "s3" / "lake" / "results", "s3://lake/results"
        ports, scraped = [free_port() for _ in range(COORDINATORS)], [free_port() for _ in range(COORDINATORS)]
        self.ports = list(zip(ports, scraped))
        self.urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.worker_links = [Link(port) for port in ports]
        self.database_links = [Link(self.postgres.port) for _ in ports]
        self.coordinators = [Daemon(f"coordinator-{number}", [
            "sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$0" "$@"', args.encaje, "coordinator", "--listen",
            f"127.0.0.1:{port}", "--metrics", f"127.0.0.1:{metrics}", "--database",
            f"postgres://{ROLE}@127.0.0.1:{link.port}/{ROLE}", "--storage", storage, "--lease-ttl",
            f"{LEASE_SECONDS:.0f}s", "--corpus-root", folder / NARROW], folder, environment)
            for number, ((port, metrics), link) in enumerate(zip(self.ports, self.database_links))]
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
        else:
            del self.events["swap folder"]
        self.events = {event: weight for event, weight in self.events.items() if re.search(args.only, event)}

    def status(self, job):
        """Returns the state of a job, resuming it if the breaker paused it because of our faults."""
        status = json.loads(self.ask("status", job, "--json"))
        if status.get("paused"):
            if "worker_lost" in (status.get("pause_reason") or "") and not status["shards"]["split"]:
                sys.exit(f"job {job} is paused because workers were lost: {json.dumps(status)}")
            self.ask("resume", job)
        return status

    def ensure(self):
        for daemon in [*([self.storage] if self.storage else []), *self.coordinators, *self.workers]:
            daemon.ensure()

    def disturb(self, chance, job, corpus):
        """Disturbs one part or several; returns a description."""
        event = chance.choices(list(self.events), weights=list(self.events.values()))[0]
        verb, what = event.split(" ", 1)
        seconds = LEASE_SECONDS * chance.uniform(0.5, 2)
        target = chance.choice({
            "worker": self.workers, "coordinator": self.coordinators, "storage": [self.storage], "disk": self.disks,
            "database": [self.postgres], "worker link": self.worker_links, "database link": self.database_links,
            "workers": [self.workers], "cluster": [[*self.workers, *self.coordinators]], "ports": self.ports,
            "output": [job], "corpus": [corpus], "folder": [self.files]}[what])
        match verb, what:
            case "kill", _:
                self.kill(target)
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
            case "darken", _:
                self.kill(*target)
            case "crowd", _:
                self.crowd(target, seconds)
            case "flip", _:
                self.flip(chance, job)
            case "change", _:
                # A plan would be based on the changed content.
                if self.status(job)["state"] == "running":
                    self.changed.add(job)
                    corpus.change(chance, seconds)
            case "swap", _:
                swap(target, seconds)
            case "fail-over", _:
                target.fail_over(self.lead_to, seconds)
            case _, "database" if verb in REFUSALS:
                target.refuse(verb, seconds)
            case _, "database":
                target.stop("fast" if verb == "restart" else "immediate")
                time.sleep(LEASE_SECONDS * 1.5 if verb == "pause" else 0)
                target.start()
        return event

    def kill(self, *daemons):
        for daemon in daemons:
            daemon.signal(signal.SIGKILL)
        self.kills += len(daemons)

    def lead_to(self, port):
        """Switches all coordinators to another database server."""
        for link in self.database_links:
            link.target = port
            link.cut()

    def crowd(self, ports, seconds):
        """Opens more silent connections than a coordinator has descriptors to each port; other clients must still be served."""
        crowd = Crowd(list(ports), SILENT)
        time.sleep(seconds)
        port, deadline = ports[0], time.monotonic() + PATIENCE_SECONDS
        while self.try_once("list", coordinators=f"http://127.0.0.1:{port}")[0] != 0:
            if time.monotonic() > deadline:
                sys.exit(f"{len(crowd.idle)} silent connections keep a coordinator from answering")
            self.ensure()
        crowd.leave()

    def flip(self, chance, job):
        """Flips a bit of an output of a running job: a winner, a loser, or one that is not committed yet."""
        outputs = sorted(self.files.glob(f"jobs/{job}/shards/**/*.parquet"))
        if outputs:
            output = chance.choice(outputs)
            spoil(output, chance)
            self.flipped.setdefault(job, []).append(str(output.parent.relative_to(self.files)))

    def mend(self, job, status):
        """Resumes a job that failed because of damage to its files. It must name it, and must not fail otherwise."""
        reason = status.get("reason") or ""
        if job in self.changed and "changed since" in reason:
            remedy = "retry"
        elif any(key in reason for key in self.flipped.get(job, [])):
            remedy = "repair"
        else:
            sys.exit(f"job {job} does not end well: {json.dumps(status)}")
        self.ask(remedy, job)
        self.mended[remedy] = self.mended.get(remedy, 0) + 1

    def damage(self, chance, job):
        """Damages one output file of a finished job in storage; returns its key and the kind of damage."""
        manifests = sorted(self.files.glob(f"jobs/{job}/manifest-*.json"), key=lambda path: int(path.stem.split("-")[1]))
        key = chance.choice(json.loads(manifests[-1].read_text())["files"])["name"]
        how = chance.choice(["flip", "cut", "remove"])
        if how == "remove":
            (self.files / key).unlink()
        else:
            spoil(self.files / key, chance, cut=how == "cut")
        return key, how

    def expect_patience(self):
        """Checks that no coordinator treated a temporary database error as permanent."""
        for daemon in self.coordinators:
            lines = daemon.log.read_text().splitlines()
            failed = [line for line in lines if "ERROR" in line and "the store failed" in line]
            if failed:
                sys.exit(f"{daemon.name} took {len(failed)} refusals for failures: {failed[0]}")

    def end(self):
        for daemon in [*self.workers, *self.coordinators, *([self.storage] if self.storage else [])]:
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGKILL)
            daemon.process.wait()
        for disk in self.disks:
            disk.unmount()
        self.postgres.stop("immediate")


def spoil(file, chance, cut=False):
    """Flips one bit of a file, or truncates it."""
    size = file.stat().st_size
    with file.open("r+b") as opened:
        if cut:
            opened.truncate(size - 1)
            return
        at = chance.randrange(size)
        opened.seek(at)
        [byte] = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 1 << chance.randrange(8)]))


def swap(folder, seconds):
    """Replaces a folder by an empty one for a while, as if a disk were unmounted."""
    away, empty = folder.with_name(f"{folder.name}-away"), folder.with_name(f"{folder.name}-empty")
    folder.rename(away)
    folder.mkdir()
    time.sleep(seconds)
    # Files written meanwhile are lost with it.
    folder.rename(empty)
    away.rename(folder)
    shutil.rmtree(empty, ignore_errors=True)


def expect_refusal(what, code, said, name):
    if code != 1 or name not in said:
        sys.exit(f"{what}: expected a refusal that names {name}, found code {code}:\n{said}")


class Proof:
    """The checks of every job, with their counts."""

    def __init__(self, args, cluster, folder):
        self.args, self.cluster, self.folder = args, cluster, folder
        self.rows, self.jobs, self.healed, self.named = 0, 0, 0, 0

    def of(self, job, corpus, chance):
        """Downloads and verifies a job's result; damages every second one before and after."""
        out, spoils = self.folder / job, self.jobs % 2 == 0
        self.settle(job)
        self.heal(job, out)
        if spoils:
            key, how = self.cluster.damage(chance, job)
            code, _, said = self.cluster.try_once("download", job, "--out", str(out))
            expect_refusal(f"download of job {job} ({how})", code, said, key if how != "remove" else key.split("/e0")[0])
            self.cluster.ask("repair", job)
            self.settle(job)
            self.healed += 1
        self.download(job, out)
        code, said = self.verify(out, corpus)
        if code:
            sys.exit(f"job {job} does not verify:\n{said}")
        if corpus.vectors_of(out) != corpus.expected:
            sys.exit(f"job {job} verifies, but its vectors are not those of an undisturbed run")
        if spoils:
            part = chance.choice(sorted(out.glob("part-*.parquet")))
            spoil(part, chance)
            code, said = self.verify(out, corpus)
            expect_refusal(f"verify of job {job}", code, said, part.name)
            self.download(job, out)
            if self.verify(out, corpus)[0]:
                sys.exit(f"job {job} does not verify after its damaged part was fetched again")
            self.named += 1
        self.rows += json.loads((out / "manifest.json").read_text())["totals"]["rows"]
        self.jobs += 1
        shutil.rmtree(out)

    def heal(self, job, out):
        """A download must report bits flipped during the job if they are part of the result."""
        if job not in self.cluster.flipped:
            return
        code, _, said = self.cluster.try_once("download", job, "--out", str(out))
        # Existing files would not be fetched again, and their damage not be detected.
        shutil.rmtree(out, ignore_errors=True)
        if code == 0:
            return
        if code != 1 or not any(key in said for key in self.cluster.flipped[job]):
            sys.exit(f"download of job {job}: expected a refusal that names one of {self.cluster.flipped[job]}:\n{said}")
        self.cluster.ask("repair", job)
        self.settle(job)
        self.healed += 1

    def settle(self, job):
        deadline = time.monotonic() + self.args.settle_seconds
        while (status := self.cluster.status(job))["state"] != "succeeded":
            if status["state"] == "failed":
                self.cluster.mend(job, status)
            elif status["state"] == "cancelled" or time.monotonic() > deadline:
                sys.exit(f"job {job} does not end well: {json.dumps(status)}")
            self.cluster.ensure()
            time.sleep(0.2)

    def download(self, job, out):
        self.cluster.ask("download", job, "--wait", "--out", str(out), seconds=self.args.settle_seconds)

    def verify(self, out, corpus):
        command = [self.args.encaje, "verify", str(out), "--json", "--corpus", *corpus.files]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def rage(args, cluster, chance, corpora):
    """Disturbs the cluster while it runs one job after the other; returns the jobs with their corpora, and the disturbances."""
    jobs, counts = [], {}

    def submit():
        corpus = corpora[1 if len(jobs) % WIDE_EVERY == 1 else 0]
        jobs.append((cluster.ask("submit", *corpus.options, "--again").strip(), corpus))

    submit()
    for _ in range(args.events):
        time.sleep(chance.uniform(0.05, 0.8))
        cluster.ensure()
        job, corpus = jobs[-1]
        event = cluster.disturb(chance, job, corpus)
        counts[event] = counts.get(event, 0) + 1
        if args.verbose:
            print(f"{time.strftime('%H:%M:%S')} {event}", file=sys.stderr, flush=True)
        status = cluster.status(job)
        if status["state"] in ("failed", "cancelled"):
            cluster.mend(job, status)
        if status["state"] == "succeeded":
            submit()
    return jobs, counts


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
    parser.add_argument("--logs", help="copy the logs into this folder, which must not exist")
    parser.add_argument("--only", default="", help="only events that this regular expression matches")
    parser.add_argument("--verbose", action="store_true", help="tell each event as it happens")
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
        wide = wide_corpus(folder / "wide.csv", texts_of(pathlib.Path(args.corpus[0])))
        corpora = [Corpus(args, folder / NARROW, args.corpus), Corpus(args, folder / "wide", [wide])]
        cluster = Cluster(args, folder)
        proof = Proof(args, cluster, folder)
        try:
            jobs, counts = rage(args, cluster, chance, corpora)
            cluster.ensure()
            for job, corpus in jobs:
                proof.of(job, corpus, chance)
            cluster.expect_patience()
        except SystemExit:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            cluster.end()
            if args.logs:
                shutil.copytree(folder, args.logs, ignore=lambda _, names: [n for n in names if not n.endswith(".log")])
    told = ", ".join(f"{count} x {event}" for event, count in sorted(counts.items()))
    took = time.monotonic() - started
    print(f"{args.events} events, {cluster.kills} processes killed, in {took:.0f} s (seed {args.seed}): {told}")
    print(f"{proof.jobs} jobs, {proof.rows} rows: each verified against its corpus and equal to an undisturbed run")
    print(f"{proof.healed} damaged files in storage were named and made again, {proof.named} damaged downloads were named "
          "and fetched again")
    retried, repaired = cluster.mended.get("retry", 0), cluster.mended.get("repair", 0)
    print(f"{retried} times a changed corpus was named, {repaired} times an output that was damaged under way")


main()
