"""A private PostgreSQL server and its faults: restarts, a failover to a standby, revoked roles and permissions."""

import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time

from chaos_links import free_port

# The role of coordinators, and the name of its database. It has no other permissions.
ROLE = "app"
# How long a standby may take to catch up, and a statement to be executed.
PATIENCE_SECONDS = 60.0
# Statements that revoke something from the role, and that restore it.
REFUSALS = {
    "readonly": ("ALTER SYSTEM SET default_transaction_read_only = on", "ALTER SYSTEM RESET default_transaction_read_only"),
    "revoke": (f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"),
    "lock-out": (f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN"),
    "crowd-out": (f"ALTER ROLE {ROLE} CONNECTION LIMIT 1", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"),
}


class Postgres:
    """A server with its data in a folder, run as the user `postgres` if we are root."""

    def __init__(self, folder):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
        self.programs = found[-1].parent if found else pathlib.Path(
            shutil.which("pg_ctl") or sys.exit("PostgreSQL is not installed: run make setup")).parent
        self.folder, self.generation, self.port = folder, 0, free_port()
        self.account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        folder.mkdir(mode=0o755)
        if self.account:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid)
        self.call("initdb", "--username=encaje", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", self.data)
        self.start()
        self.say(f"CREATE ROLE {ROLE} LOGIN")
        self.say(f"CREATE DATABASE {ROLE} OWNER {ROLE}")

    @property
    def data(self):
        return self.folder / f"data-{self.generation}"

    def call(self, program, *arguments):
        user = {"user": self.account.pw_uid, "group": self.account.pw_gid} if self.account else {}
        command = [str(self.programs / program), *map(str, arguments)]
        # Not into pipes: a server would keep them open.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(command, cwd=self.folder, stdout=said, stderr=said, **user)
            said.seek(0)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: {said.read()}")

    def say(self, statement, database="postgres"):
        """Executes a statement as the owner of the server, and returns its result."""
        command = ["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", "encaje", "-d", database, "-c", statement]
        environment = {**os.environ, "PGOPTIONS": "-c default_transaction_read_only=off"}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (done := subprocess.run(command, capture_output=True, text=True, env=environment)).returncode:
            if time.monotonic() > deadline:
                sys.exit(f"{statement}: {done.stderr}")
            time.sleep(0.1)
        return done.stdout.strip()

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=on"
        self.call("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self, mode):
        self.call("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def refuse(self, how, seconds):
        """Revokes something from the role for a while. Connected clients must reconnect or get an error."""
        take, give_back = REFUSALS[how]
        for statement in (take, give_back):
            self.say(statement, ROLE)
            self.say("SELECT pg_reload_conf()")
            if how in ("lock-out", "crowd-out") and statement == take:
                self.say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
            if statement == take:
                time.sleep(seconds)

    def fail_over(self, switch, seconds):
        """Kills the server once a standby has all acknowledged writes; `switch` redirects clients there, which is read-only until
        it is promoted."""
        old, old_port = self.data, self.port
        standby, port = self.folder / f"data-{self.generation + 1}", free_port()
        self.call("pg_basebackup", "-D", standby, "-R", "-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-p", old_port,
                  "-U", "encaje")
        self.generation, self.port = self.generation + 1, port
        self.start()
        self.port = old_port
        self.say("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.say("SELECT pg_reload_conf()")
        self.wait_for("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND flush_lsn >= pg_current_wal_lsn()")
        time.sleep(seconds / 2)
        self.call("pg_ctl", "-D", old, "-w", "-m", "immediate", "stop")
        self.port = port
        switch(port)
        time.sleep(seconds)
        self.call("pg_ctl", "-D", self.data, "-w", "promote")
        # The new primary must not wait for a standby of its own. (This needs no write to take effect.)
        self.say("ALTER SYSTEM RESET synchronous_standby_names")
        self.say("SELECT pg_reload_conf()")
        shutil.rmtree(old)

    def wait_for(self, question):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.say(question) == "0":
            if time.monotonic() > deadline:
                sys.exit(f"still nothing after {PATIENCE_SECONDS} s: {question}")
            time.sleep(0.1)
