"""A real Kafka broker for tests: one KRaft node on ports of its own, in a directory of its own.

    with Broker(directory) as broker:
        broker.tool("create", "clicks", "2")
        ... broker.plain is "127.0.0.1:port" ...

The jars are those that "tools/setup --kafka-broker" fetched (MILLRACE_KAFKA_JARS, else the cache). Listeners: plain, SASL over
plain TCP (PLAIN and SCRAM), TLS, SASL over TLS. Users: alice/canary-alice-pw (PLAIN), bob/canary-bob-pw
(SCRAM-SHA-256 and -512); tools/run-tests fails when a test's output has one of these passwords.
"""
import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
READY_SECONDS = 90

LOG4J = """Configuration:
  Appenders: {Console: {name: STDOUT, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}}
  Loggers: {Root: {level: INFO, AppenderRef: {ref: STDOUT}}}
"""

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASLP://127.0.0.1:{sasl},PROXIED://127.0.0.1:{proxied}{tls_listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxy},SASLP://127.0.0.1:{sasl}{tls_listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASLP:SASL_PLAINTEXT,PROXIED:PLAINTEXT,TLS:SSL,SASLTLS:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={dir}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.max.timeout.ms=60000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=2
background.threads=2
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
"""

JAAS = """listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="canary-alice-pw";
listener.name.{listener}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{listener}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


def jars():
    """The folder with the broker's jars, or None."""
    folder = os.environ.get("MILLRACE_KAFKA_JARS")
    if not folder:
        cache = os.environ.get("MILLRACE_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "millrace")
        folder = os.path.join(cache, "kafka-4.3.1")
    return folder if glob.glob(os.path.join(folder, "kafka_*.jar")) else None


def tool_path():
    return os.path.join(os.environ.get("MILLRACE_BUILD_DIR", ""), "tests/kafka/kafka_tool")


def missing():
    """Why the broker cannot run here, or None."""
    if shutil.which("java") is None or jars() is None:
        return "no Kafka broker; run tools/setup --kafka-broker"
    if not os.access(tool_path(), os.X_OK):
        return "this build has no Kafka"
    return None


HELD = []  # names of the blocks of ports that this process has


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Ports of a block that no other process of these tests has, below those that connections get for their own end."""
    for block in random.sample(range(500), 500):
        holder = socket.socket(socket.AF_UNIX)  # a name that the system forgets with this process
        try:
            holder.bind(f"\0millrace-ports-{block}")
        except OSError:
            holder.close()
            continue
        free = [port for port in range(20000 + 20 * block, 20000 + 20 * block + 20) if is_free(port)]
        if len(free) >= count:
            HELD.append(holder)
            return free[:count]
        holder.close()
    raise RuntimeError("no free ports")


def make_certificates(directory):
    """A CA, a certificate of the broker, and a second CA that did not sign it. None without openssl."""
    if shutil.which("openssl") is None:
        return False

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    for name in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")
    with open(os.path.join(directory, "san.cnf"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "broker.key",
            "-out", "broker.csr")
    openssl("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "san.cnf", "-out", "broker.crt")
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", "broker.key", "-out", "broker.p8")
    with open(os.path.join(directory, "broker.pem"), "w", encoding="utf-8") as out:
        for part in ("broker.p8", "broker.crt", "ca.pem"):
            with open(os.path.join(directory, part), encoding="utf-8") as file:
                out.write(file.read())
    return True


class Broker:
    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        plain, controller, sasl, tls, sasl_tls, proxied, proxy = free_ports(7)
        self.plain = f"127.0.0.1:{plain}"
        self.sasl = f"127.0.0.1:{sasl}"
        self.tls = f"127.0.0.1:{tls}"
        self.sasl_tls = f"127.0.0.1:{sasl_tls}"
        # For a proxy of tests/support/proxy.py: it listens on proxy_port and passes on to proxied; the broker tells its
        # clients there to come back by way of the proxy.
        self.proxied, self.proxy_port = ("127.0.0.1", proxied), proxy
        self.has_tls = make_certificates(directory)
        self.process = None
        listeners = f",TLS://{self.tls},SASLTLS://{self.sasl_tls}" if self.has_tls else ""
        text = PROPERTIES.format(plain=plain, controller=controller, sasl=sasl, dir=directory, proxied=proxied, proxy=proxy,
                                 tls_listeners=listeners)
        text += JAAS.format(listener="saslp")
        if self.has_tls:
            text += JAAS.format(listener="sasltls")
            text += (f"ssl.keystore.type=PEM\nssl.keystore.location={directory}/broker.pem\n"
                     f"ssl.truststore.type=PEM\nssl.truststore.location={directory}/ca.pem\n")
        self._write("server.properties", text)
        self._write("log4j2.yaml", LOG4J)
        users = [f"SCRAM-SHA-{bits}=[name=bob,password=canary-bob-pw]" for bits in (256, 512)]
        subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties",
                                  *[word for user in users for word in ("--add-scram", user)]),
                       cwd=directory, check=True, stdout=subprocess.DEVNULL)

    def _write(self, name, text):
        with open(os.path.join(self.dir, name), "w", encoding="utf-8") as file:
            file.write(text)

    @staticmethod
    def _java(*args):
        return ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.yaml",
                "-cp", os.path.join(jars(), "*"), *args]

    def start(self):
        """Returns when the broker says that it is ready."""
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(self._java("kafka.Kafka", "server.properties"), cwd=self.dir,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ready = threading.Event()
        threading.Thread(target=self._follow, args=(self.process.stdout, ready), daemon=True).start()
        if not ready.wait(READY_SECONDS) or self.process.poll() is not None:
            with open(os.path.join(self.dir, "broker.log"), encoding="utf-8") as log:
                tail = log.read()[-2000:]
            self.kill()
            raise RuntimeError("the broker did not start:\n" + tail)
        return self

    def _follow(self, stream, ready):
        with open(os.path.join(self.dir, "broker.log"), "a", encoding="utf-8") as log:
            for line in stream:
                log.write(line)
                log.flush()
                if "Kafka Server started" in line:
                    ready.set()
        stream.close()
        ready.set()

    def kill(self):
        """kill -9; acknowledged records are kept."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    __enter__ = start

    def __exit__(self, *_):
        self.kill()

    def tool(self, *args, lines=None, conf=None, brokers=None, headers=None):
        """Runs kafka_tool; its output."""
        env = dict(os.environ)
        if conf:
            env["KAFKA_CONF"] = ";".join(f"{key}={value}" for key, value in conf.items())
        if headers:
            env["KAFKA_HEADERS"] = headers
        done = subprocess.run([tool_path(), brokers or self.plain, *map(str, args)], env=env, text=True, check=False,
                              input=None if lines is None else "".join(line + "\n" for line in lines),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"kafka_tool {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout


def for_module(state, name, program):
    """setUpModule and tearDownModule of a script with one broker for all its tests: state["broker"], and a folder, state["dir"].
    Its tests are skipped without the broker or the program."""
    def set_up():
        why = missing()
        if why is None and not os.access(program, os.X_OK):
            why = f"this build has no '{os.path.basename(program)}'"
        if why is not None:
            raise unittest.SkipTest(why)
        state["dir"] = tempfile.mkdtemp(prefix=f"millrace-{name}-")
        state["broker"] = Broker(os.path.join(state["dir"], "broker")).start()

    def tear_down():
        state["broker"].kill()
        shutil.rmtree(state["dir"], True)

    return set_up, tear_down
