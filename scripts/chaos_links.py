"""Faults around processes: cut, delayed or black-holed TCP links, silent connections, a full disk, an unmounted folder."""

import os
import pathlib
import socket
import subprocess
import threading
import time

# How long a black-holed link keeps its far connections: keepalive closes them then.
FAR_END_SECONDS = 10.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Crowd:
    """Connections that send nothing."""

    def __init__(self, ports, each):
        self.idle = []
        for port in ports * each:
            try:
                self.idle.append(socket.create_connection(("127.0.0.1", port), timeout=1))
            except OSError:
                # Nothing listens at the moment, or the backlog is full.
                pass

    def leave(self):
        for connection in self.idle:
            connection.close()


class Link:
    """A proxy of a port of this machine. Its connections can be cut or black-holed, as by a router that lost their state; all
    traffic can be delayed, as by an unplugged cable."""

    def __init__(self, target):
        self.target, self.made, self.dumb_below = target, 0, 0
        self.flows = threading.Event()
        self.flows.set()
        self.pairs, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                far.settimeout(None)
                # Before a cut can see and close them.
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                near.close()
                continue
            with self.lock:
                number, self.made = self.made, self.made + 1
                self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(number, source, sink), daemon=True).start()

    def carry(self, number, source, sink):
        try:
            while data := source.recv(1 << 16):
                self.flows.wait()
                if number >= self.dumb_below:
                    sink.sendall(data)
        except OSError:
            pass
        # The end of a connection is dropped, too.
        if number >= self.dumb_below:
            hang_up(source, sink)

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for near, far in pairs:
            hang_up(near, far)

    def hold(self, seconds):
        self.flows.clear()
        time.sleep(seconds)
        self.flows.set()

    def swallow(self):
        with self.lock:
            self.dumb_below = self.made
            far_ends, self.pairs = [far for _, far in self.pairs], []
        threading.Timer(FAR_END_SECONDS, hang_up, far_ends).start()


def hang_up(*ends):
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()


class SmallDisk:
    """A folder limited to a megabyte if this process may mount one; an ordinary one otherwise."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(self.folder)]
        mounted = os.getuid() == 0 and subprocess.run(command, capture_output=True)
        self.mounted = bool(mounted) and mounted.returncode == 0

    def fill(self, seconds):
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        time.sleep(seconds)
        filler.unlink()

    def unmount(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)
