"""A TCP proxy that misbehaves on purpose, between a program and a real server.

    with Proxy(("127.0.0.1", 5432), script=[Reset(after=1000), {}], seed=7) as proxy:
        ... the program connects to proxy.address ...

Each connection takes the next item of the script, in the order they are accepted; the last one stays. An item says what happens
to one connection:

    chunk=1            bytes are passed on in pieces of at most so many
    delay=0.01         each piece waits so long
    reset_after=N      after N bytes from the server the connection is reset (RST) on both sides
    close_after=N      after N bytes from the server both directions are closed, in the middle of whatever it was
    half_close_after=N after N bytes from the server the client gets an end of stream; its own direction goes on
    flip_at=N          one bit of byte N from the server is flipped; which one says the seed
    flip_match=BYTES   one bit of the first occurrence of these bytes from the server is flipped
    inject=BYTES       instead of the server's first bytes these are sent
    refuse=True        the connection is reset before anything is passed on

Nothing is random but by the seed. connections, bytes_down count what happened. down() stops listening (connections are refused
by the system) and drops what is open; up() listens on the same port again. Threads: one for each direction of a connection.
"""
import random
import socket
import struct
import threading


class Proxy:
    def __init__(self, target, script=None, seed=1, port=0):
        self.target = target
        self.script = list(script or [{}])
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.connections = 0
        self.bytes_down = 0
        self.flipped = 0
        self.open = []
        self.changed = threading.Condition(self.lock)
        self.listener = None
        self.port = port

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    def up(self):
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def down(self):
        if self.listener is not None:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        self.drop_all()

    def drop_all(self):
        """Resets every open connection."""
        with self.lock:
            pairs, self.open = self.open, []
        for pair in pairs:
            for one in pair:
                self._reset(one)

    def wait_for_connections(self, count, timeout=60):
        with self.changed:
            return self.changed.wait_for(lambda: self.connections >= count, timeout)

    @staticmethod
    def _reset(one):
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.shutdown(socket.SHUT_RD)  # wakes the thread that reads, and sends nothing yet
        except OSError:
            pass
        one.close()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                item = self.script[min(self.connections, len(self.script) - 1)]
                self.connections += 1
                self.changed.notify_all()
            if item.get("refuse"):
                self._reset(client)
                continue
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                self._reset(client)
                continue
            for one in (client, server):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            with self.lock:
                self.open.append(pair)
            threading.Thread(target=self._pass, args=(pair, client, server, item, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(pair, server, client, item, True), daemon=True).start()

    def _flip(self, data, passed, item):
        at = item.get("flip_at")
        if item.get("flip_match") in (None, b"") or self.flipped > 0:
            pass
        elif item["flip_match"] in data:
            at = passed + data.index(item["flip_match"]) + len(item["flip_match"]) // 2
        if at is None or not passed <= at < passed + len(data):
            return data
        changed = bytearray(data)
        changed[at - passed] ^= 1 << self.random.randrange(8)
        self.flipped += 1
        return bytes(changed)

    def _pass(self, pair, source, sink, item, down):
        """One direction of one connection. down: from the server to the client."""
        passed, wait = 0, threading.Event()
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if down:
                    if passed == 0 and item.get("inject"):
                        data = item["inject"]
                    data = self._flip(data, passed, item)
                    limits = [(item[name], name) for name in ("reset_after", "close_after", "half_close_after") if name in item]
                    for limit, name in limits:
                        if passed + len(data) < limit:
                            continue
                        sink.sendall(data[:limit - passed])
                        if name == "half_close_after":
                            sink.shutdown(socket.SHUT_WR)
                            while source.recv(65536):
                                pass
                        elif name == "close_after":
                            for one in pair:
                                one.shutdown(socket.SHUT_RDWR)
                        else:
                            for one in pair:
                                self._reset(one)
                        return
                piece = item.get("chunk", len(data))
                for at in range(0, len(data), piece):
                    if item.get("delay"):
                        wait.wait(item["delay"])  # nobody sets it: that is the delay
                    sink.sendall(data[at:at + piece])
                passed += len(data)
                if down:
                    with self.lock:
                        self.bytes_down += len(data)
        except OSError:
            for one in pair:
                self._reset(one)
