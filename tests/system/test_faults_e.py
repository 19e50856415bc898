"""Rows E of the fault catalogue (docs/faults.md) on a real Kafka broker: through a proxy of ours that resets, cuts, delays, splits
and flips bits (tests/support/proxy.py), and with records that brokers take and programs do not expect."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import kafka_broker  # noqa: E402  pylint: disable=wrong-import-position
from invariants import BIN, FaultCase  # noqa: E402  pylint: disable=wrong-import-position
from proxy import Proxy  # noqa: E402  pylint: disable=wrong-import-position

STATE = {}
PIPELINE = """
SET checkpoint = 'cp';
SET unavailable_timeout = '{patience}';
CREATE TABLE src (k BIGINT, city VARCHAR) WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topic}', format = 'json',
    start = 'earliest'{options});
CREATE TABLE rows (k BIGINT, city VARCHAR) WITH (connector = 'file', path = 'out/rows', format = 'json');
CREATE TABLE dst (city VARCHAR, n BIGINT) WITH (connector = 'file', path = 'out/dst', format = 'json');
INSERT INTO rows SELECT k, city FROM src;
SET output_mode = 'update';
INSERT INTO dst SELECT city, count(*) AS n FROM src GROUP BY city;
"""
FAST = ", \"kafka.reconnect.backoff.ms\" = '10', \"kafka.reconnect.backoff.max.ms\" = '50'"


setUpModule, tearDownModule = kafka_broker.for_module(STATE, "faults-e", BIN)


class Kafka(FaultCase):
    def setUp(self):
        self.broker = STATE["broker"]
        self.topic = self.id().rsplit(".", 1)[1].replace("_", "-")[5:70]
        super().setUp()

    def query(self, **places):
        self.places.update(places)
        given = {"brokers": self.broker.plain, "patience": "60s", "topic": self.topic, **self.places}
        self.write("q.sql", PIPELINE.format(**given))

    def proxied(self, **more):
        self.query(brokers=f"127.0.0.1:{self.broker.proxy_port}", options=FAST, **more)

    def proxy(self, *script, seed=1):
        proxy = Proxy(self.broker.proxied, script=list(script), seed=seed, port=self.broker.proxy_port)
        self.addCleanup(proxy.down)
        return proxy.up()

    def create(self, partitions=1, *config):
        self.broker.tool("create", self.topic, partitions, *config)

    def produce(self, cities, partition=0, padding=0, **more):
        rows = [(len(self.put_rows) + i, city) for i, city in enumerate(cities)]
        self.put_rows += rows
        self.broker.tool("produce", self.topic, partition, lines=[f'{{"k":{k},"pad":"{"x" * padding}","city":"{city}"}}' for k, city in rows], **more)

    # ---- E1: brokers that go away ----

    def test_E1_all_brokers_away_is_waited_out_and_a_spent_budget_is_told(self):
        self.create(2)
        proxy = self.proxy({})
        self.proxied()
        for partition in range(2):
            self.produce(["Oslo", "Bergen"] * 50, partition)
        process = self.start()
        self.wait_for("rows", self.has_all)
        proxy.down()
        self.produce(["Oslo"] * 10)
        seen = proxy.connections
        proxy.up()
        self.assertTrue(proxy.wait_for_connections(seen + 1))
        self.wait_for("rows behind the outage", self.has_all)
        self.end(process)
        proxy.down()
        self.produce(["Bergen"])
        self.proxied(patience="500 ms")
        self.expect(69, "Connection refused")
        proxy.up()
        self.proxied(patience="60s")
        self.whole()

    # ---- E2: connections that break ----

    def test_E2_connections_that_are_reset_cut_or_split_lose_and_double_nothing(self):
        self.create(2)
        for partition in range(2):
            self.produce([f"city {i % 5}" for i in range(400)], partition)
        # Wherever in the handshake, the metadata or the records it happens; then it works.
        script = [item for at in (1, 7, 30, 200, 1500, 9000) for item in ({"reset_after": at}, {"close_after": at},
                                                                        {"half_close_after": at})]
        script += [{"refuse": True}, {"chunk": 1, "close_after": 3000}, {"delay": 0.02}, {"chunk": 97}]
        proxy = self.proxy(*script)
        self.proxied()
        self.ok()
        self.assertGreater(proxy.connections, 5)
        self.no_partial_output()
        self.whole()

    def test_E2_connections_that_break_for_ever_end_when_the_budget_is_spent(self):
        self.create()
        self.produce(["Oslo"])
        proxy = self.proxy({"reset_after": 40})
        self.proxied(patience="300 ms")
        said = self.expect(69)
        self.assertIn(str(self.broker.proxy_port), said + self.topic)
        proxy.down()
        self.query(brokers=self.broker.plain, options="", patience="60s")
        self.whole()

    def test_E2_lengths_and_ids_that_make_no_sense_are_no_answer(self):
        self.create()
        self.produce(["Oslo", "Bergen"])
        nonsense = [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00",
                    b"\x00\x00\x00\x08\x00\x00\x30\x39\x00\x00\x00\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)) * 8]
        proxy = self.proxy(*[{"inject": one} for one in nonsense], {})
        self.proxied()
        self.ok()
        self.assertGreater(proxy.connections, len(nonsense) - 1)
        self.whole()

    # ---- E3: damaged records ----

    def test_E3_a_flipped_bit_in_a_record_never_becomes_a_row(self):
        self.create()
        self.produce(["city-of-the-first-record"] * 3)
        proxy = self.proxy({"flip_match": b"city-of-the-first-record"})
        self.proxied()
        done = self.run_through()
        self.assertEqual(proxy.flipped, 1)
        if done.returncode != 0:  # it may also be asked for again and arrive whole
            self.stopped(done, done.returncode, self.topic)
            self.assertIn(done.returncode, (65, 69))
        self.no_partial_output()
        proxy.down()
        self.query(brokers=self.broker.plain, options="")
        self.whole()

    # ---- E7: gone for a moment ----

    def test_E7_metadata_that_does_not_come_for_a_moment_is_asked_for_again(self):
        self.create()
        self.produce(["Oslo"])
        proxy = self.proxy({})
        self.proxied()
        process = self.start()
        self.wait_for("rows", self.has_all)
        for _ in range(3):
            seen = proxy.connections
            proxy.drop_all()
            self.assertTrue(proxy.wait_for_connections(seen + 1))
        self.produce(["Bergen"])
        self.wait_for("rows", self.has_all)
        self.end(process)
        self.whole()

    # ---- E11: groups ----

    def test_E11_a_group_that_somebody_else_joins_and_leaves_takes_no_partition_away(self):
        """Whoever joins gets all partitions, since millrace is in no group, and may commit what he likes."""
        self.create(2)
        self.produce(["Oslo"] * 5)
        self.query(options=", \"kafka.group.id\" = 'shared'")
        if self.run_cli("check", "q.sql").returncode == 78:  # a group is not even an option of this source
            self.query(options="")
        process = self.start()
        self.wait_for("rows", self.has_all)
        for partition in (0, 1):
            self.assertEqual(self.broker.tool("join", self.topic, "shared"), "2\n")
            self.produce(["Bergen"] * 5, partition)
            self.wait_for("rows behind a rebalance", self.has_all)
        self.end(process)
        self.assertEqual(self.broker.tool("join", self.topic, "shared"), "2\n")  # and between two starts
        self.whole()

    # ---- E13, E14: records that brokers take ----

    def test_E13_large_empty_and_much_described_records_are_read(self):
        self.create(1, "max.message.bytes=6000000")
        big = {"message.max.bytes": "6000000"}
        self.produce(["Oslo", "", "Bergen"], padding=3000000, conf=big)
        self.produce(["Oslo"], headers=";".join(f"h{i % 7}={i}" for i in range(5000)))
        self.query(options=", \"kafka.fetch.message.max.bytes\" = '100000'")
        self.ok()
        self.broker.tool("produce", self.topic, 0, lines=["k\t", "\t"])  # null values are rows without values
        self.ok()
        self.assertEqual(self.lines_of("rows")[-2:], [{}, {}])
        self.broker.tool("produce", self.topic, 0, lines=["", "   "])  # empty values are not even that
        self.expect(65, self.topic, "the value is empty")
        self.query(options=", on_error = 'skip'")
        done = self.run_through("--progress", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 records could not be decoded", done.stderr)
        self.assertEqual(len(self.lines_of("rows")), len(self.put_rows) + 2)

    def test_E14_times_of_records_in_any_order_change_no_row(self):
        self.create(1, "message.timestamp.after.max.ms=9223372036854775807", "retention.ms=-1")
        for time_ms in ("1", "253402300799000", "1000000000000", "86400000"):
            os.environ["KAFKA_TIMESTAMP"] = time_ms
            try:
                self.produce(["Oslo"])
            finally:
                del os.environ["KAFKA_TIMESTAMP"]
        self.whole()
        self.write("t.sql", f"CREATE TABLE src (k BIGINT, ts TIMESTAMP METADATA FROM 'timestamp') WITH (connector = 'kafka', "
                   f"brokers = '{self.broker.plain}', topic = '{self.topic}', format = 'json', start = 'earliest');\n"
                   "CREATE TABLE o WITH (connector = 'console', style = 'json');\nINSERT INTO o SELECT k, ts FROM src;\n")
        done = self.run_cli("run", "--until-caught-up", "t.sql")
        if done.returncode == 0:
            for text in ("1970-01-01T00:00:00.001Z", "9999-12-31T23:59:59.000Z", "2001-09-09T01:46:40.000Z", "1970-01-02T00:00:00.000Z"):
                self.assertIn(text, done.stdout)
        else:
            self.assertEqual(done.returncode, 64, done.stderr)  # another way to name the column

    # ---- E19: a list of brokers ----

    def test_E19_dead_double_and_unknown_brokers_of_a_list_are_passed_over(self):
        self.create()
        self.produce(["Oslo"])
        dead = kafka_broker.free_ports(1)[0]
        others = f"127.0.0.1:{dead},[::1]:{dead},no-such-host.invalid:9092"
        self.query(brokers=f"{others},{self.broker.plain},{self.broker.plain}", options=FAST)
        self.ok()
        self.query(brokers=others, options=FAST + ", connect_timeout = '1s'", patience="300 ms")
        said = self.expect(69)
        self.assertRegex(said, "Connection refused|resolve|No address|not known")
        self.query(brokers=self.broker.plain, options="", patience="60s")
        self.whole()


if __name__ == "__main__":
    unittest.main()
