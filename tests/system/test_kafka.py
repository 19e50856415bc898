"""The Kafka source and sink against a real broker, through the command. One broker for all tests; a topic of its own for each."""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kafka_broker  # noqa: E402  pylint: disable=wrong-import-position

BIN = os.environ.get("MILLRACE_BIN", "")
WAIT = 120  # seconds until a process counts as hung
STATE = {}


setUpModule, tearDownModule = kafka_broker.for_module(STATE, "kafka", BIN)


def events(first, end):
    return [json.dumps({"id": i, "city": f"c{i % 3}"}) for i in range(first, end)]


class Kafka(unittest.TestCase):
    def setUp(self):
        self.broker = STATE["broker"]
        self.topic = self.id().rsplit(".", 1)[1].replace("_", "-")[:80]
        self.dir = tempfile.mkdtemp(dir=STATE["dir"])
        self.addCleanup(shutil.rmtree, self.dir, True)

    # --- helpers ----------------------------------------------------------------------------------

    def create(self, partitions=1, *config):
        self.broker.tool("create", self.topic, partitions, *config)

    def produce(self, partition, lines, how=None, **more):
        action = ["produce", self.topic, partition] if how is None else ["transact", self.topic, partition, how]
        return self.broker.tool(*action, lines=lines, **more)

    def sql(self, columns="id BIGINT, city VARCHAR", select="id", fmt="json", **options):
        """A pipeline that writes id (or what select says) of the topic to files, with a checkpoint."""
        given = {"connector": "kafka", "brokers": self.broker.plain, "topic": self.topic, "format": fmt,
                 "start": "earliest"}
        given.update({key.replace("__", "."): value for key, value in options.items()})
        table = ", ".join(f"\"{key}\" = '{value}'" for key, value in given.items() if value is not None)
        return (f"SET checkpoint = 'cp'; SET unavailable_timeout = '3s';\n"
                f"CREATE TABLE src ({columns}) WITH ({table});\n"
                f"CREATE TABLE dst WITH (connector = 'file', path = 'out', format = 'json');\n"
                f"INSERT INTO dst SELECT {select} FROM src;\n")

    def run_sql(self, sql, code=0, text=None, args=("--until-caught-up",)):
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write(sql)
        done = subprocess.run([BIN, "run", *args, "q.sql"], cwd=self.dir, capture_output=True, text=True, check=False,
                              timeout=WAIT)
        self.assertEqual(done.returncode, code, done.stderr)
        if text is not None:
            self.assertIn(text, done.stderr)
        return done

    def rows(self):
        """All rows of all visible output files, in the order of their names."""
        found = []
        for name in sorted(glob.glob(os.path.join(self.dir, "out", "part-*"))):
            with open(name, encoding="utf-8") as file:
                found += [json.loads(line) for line in file]
        return found

    def ids(self):
        return sorted(row["id"] for row in self.rows())

    def batches(self):
        return len({os.path.basename(name)[:15] for name in glob.glob(os.path.join(self.dir, "out", "part-*"))})

    # --- where a query begins ---------------------------------------------------------------------

    def test_a_new_query_from_earliest_reads_everything_once(self):
        self.create(3)
        for partition in range(3):
            self.produce(partition, events(partition * 100, partition * 100 + 100))
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), list(range(300)))
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), list(range(300)))

    def test_a_restarted_query_goes_on_where_it_stopped(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql())
        self.produce(0, events(10, 25))
        self.run_sql(self.sql(start="latest"))  # only a new query asks where to begin
        self.assertEqual(self.ids(), list(range(25)))

    def test_a_new_query_from_latest_pins_its_beginning(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql(start="latest"))
        self.assertEqual(self.ids(), [])
        self.produce(0, events(10, 12))
        self.run_sql(self.sql(start="latest"))
        self.assertEqual(self.ids(), [10, 11])

    def test_start_names_an_offset_for_every_partition(self):
        self.create(3)
        for partition in range(3):
            self.produce(partition, events(partition * 10, partition * 10 + 5))
        start = json.dumps({self.topic: {"0": 3, "1": -2, "2": -1}})
        self.run_sql(self.sql(start=start))
        self.assertEqual(self.ids(), [3, 4, 10, 11, 12, 13, 14])

    def test_start_without_one_of_the_partitions_is_refused(self):
        self.create(2)
        self.run_sql(self.sql(start=json.dumps({self.topic: {"0": 0}})), 78, "name every partition")

    def test_partitions_that_start_does_not_name_begin_as_start_others_says(self):
        self.create(2)
        for partition in range(2):
            self.produce(partition, events(partition * 10, partition * 10 + 5))
        self.run_sql(self.sql(start=json.dumps({self.topic: {"0": 3}}), start_others="earliest"))
        self.assertEqual(self.ids(), [3, 4, 10, 11, 12, 13, 14])

    def test_a_new_query_begins_at_a_time(self):
        self.create(2)
        self.produce(0, events(0, 5))
        time.sleep(0.05)
        now = int(time.time() * 1000)
        self.produce(0, events(5, 8))
        self.run_sql(self.sql(start_timestamp=now))
        self.assertEqual(self.ids(), [5, 6, 7])

    def test_committed_offsets_need_a_group_and_fall_back_to_start_reset(self):
        self.create()
        self.produce(0, events(0, 3))
        self.run_sql(self.sql(start="committed"), 78, "set 'group_id'")
        self.run_sql(self.sql(start="committed", group_id="g", start_reset="none"), 78, "committed no offset")
        self.run_sql(self.sql(start="committed", group_id="g", start_reset="earliest"))
        self.assertEqual(self.ids(), [0, 1, 2])

    def test_a_batch_waits_for_its_least_number_of_offsets(self):
        self.create()
        self.run_sql(self.sql())
        self.produce(0, events(0, 3))
        self.run_sql("SET trigger = '100ms'; SET max_batches = '1';\n" +
                     self.sql(min_offsets_per_trigger=1000, max_trigger_delay="1s"), args=())
        self.assertEqual(self.ids(), [0, 1, 2])

    def test_headers_are_a_column_of_text_and_on_request_of_json(self):
        self.create()
        self.produce(0, events(1, 2), headers="trace=xyz")
        self.run_sql(self.sql("id BIGINT, headers STRUCT(key VARCHAR, value BLOB)[]",
                              "id, headers[1].key AS name, decode(headers[1].value) AS value",
                              metadata_columns="headers"))
        self.assertEqual(self.rows(), [{"id": 1, "name": "trace", "value": "xyz"}])

    def test_spark_names_of_the_options_are_understood(self):
        self.create()
        self.produce(0, events(0, 4))
        self.run_sql(self.sql(brokers=None, topic=None, start=None, kafka__bootstrap__servers=self.broker.plain,
                              subscribe=self.topic, startingOffsets="earliest", failOnDataLoss="true"))
        self.assertEqual(self.ids(), [0, 1, 2, 3])

    def test_topics_by_pattern_and_partitions_by_number(self):
        self.create(2)
        self.produce(0, events(0, 2))
        self.produce(1, events(10, 12))
        self.run_sql(self.sql(topic=None, topic_pattern=self.topic[:-1] + "[a-z]"))
        self.assertEqual(self.ids(), [0, 1, 10, 11])
        shutil.rmtree(os.path.join(self.dir, "cp"))
        shutil.rmtree(os.path.join(self.dir, "out"))
        self.run_sql(self.sql(topic=None, assign=json.dumps({self.topic: [1]})))
        self.assertEqual(self.ids(), [10, 11])

    # --- batches ----------------------------------------------------------------------------------

    def test_max_offsets_per_trigger_cuts_batches_in_proportion(self):
        self.create(2)
        self.produce(0, events(0, 300))
        self.produce(1, events(1000, 1100))
        self.run_sql(self.sql(maxOffsetsPerTrigger="100"))
        self.assertEqual(self.ids(), list(range(300)) + list(range(1000, 1100)))
        self.assertGreaterEqual(self.batches(), 4)
        with open(sorted(glob.glob(os.path.join(self.dir, "out", "part-0000000000-*")))[0], encoding="utf-8") as file:
            self.assertEqual(len(file.readlines()), 75)

    def test_a_new_partition_is_read_from_its_beginning(self):
        self.create(1)
        self.produce(0, events(0, 5))
        self.run_sql(self.sql(start="latest"))
        self.broker.tool("grow", self.topic, 2)
        self.produce(1, events(50, 55))
        self.run_sql(self.sql(start="latest"))
        self.assertEqual(self.ids(), [50, 51, 52, 53, 54])

    # --- vectors of Structured Streaming (tests/flow/vectors/structured_kafka.inc) -------------------

    def values(self):
        """Numbers by batch, in the order of the batches."""
        batches = {}
        for name in sorted(glob.glob(os.path.join(self.dir, "out", "part-*"))):
            with open(name, encoding="utf-8") as file:
                batches.setdefault(os.path.basename(name)[:15], []).extend(json.loads(line)["id"] for line in file)
        return [sorted(batch) for batch in batches.values()]

    def ids_of(self, values):
        return [json.dumps({"id": value, "city": "x"}) for value in values]

    def test_KF_01_max_offsets_per_trigger_shares_the_limit(self):
        self.create(3)
        self.produce(0, self.ids_of(range(100, 201)))
        self.produce(1, self.ids_of(range(10, 21)))
        self.produce(2, self.ids_of([1]))
        limited = self.sql(maxOffsetsPerTrigger="10")
        self.run_sql("SET max_batches = 2;\n" + limited, args=())
        self.assertEqual(self.values(), [[1, 10] + list(range(100, 108)), [11] + list(range(108, 117))])
        self.run_sql("SET max_batches = 2;\n" + limited, args=())
        self.assertEqual(self.values()[2:], [[12] + list(range(117, 126)), [13] + list(range(126, 135))])

    def test_KF_01_once_takes_everything(self):
        self.create(3)
        for partition, values in enumerate((range(100, 201), range(10, 21), [1])):
            self.produce(partition, self.ids_of(values))
        self.run_sql(self.sql(maxOffsetsPerTrigger="10"), args=("--once",))
        self.assertEqual([len(batch) for batch in self.values()], [113])
        self.produce(0, self.ids_of(range(300, 350)))
        self.run_sql(self.sql(maxOffsetsPerTrigger="10"), args=("--once",))
        self.assertEqual([len(batch) for batch in self.values()], [113, 50])

    def test_KF_02_min_offsets_per_trigger_holds_a_batch_back(self):
        self.create(3)
        for partition, values in enumerate((range(100, 110), range(10, 15), [1])):
            self.produce(partition, self.ids_of(values))
        waits = self.sql(minOffsetsPerTrigger="15", maxTriggerDelay="2s")
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write("SET trigger = '50 ms';\n" + waits)
        process = subprocess.Popen([BIN, "run", "q.sql"], cwd=self.dir, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            self.until(lambda: [len(batch) for batch in self.values()] == [16])  # the first one never waits
            began = time.monotonic()
            self.produce(0, self.ids_of(range(200, 206)))
            self.produce(1, self.ids_of(range(300, 312)))
            self.until(lambda: sum(map(len, self.values())) == 34)
            self.assertEqual([len(batch) for batch in self.values()][0], 16)
            began = time.monotonic()
            self.produce(0, self.ids_of(range(400, 410)))
            self.until(lambda: sum(map(len, self.values())) == 44)
            self.assertGreater(time.monotonic() - began, 1.0)  # less than 15: after the delay
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=WAIT)

    def until(self, done):
        end = time.monotonic() + 60
        while not done():
            self.assertLess(time.monotonic(), end, self.values())
            time.sleep(0.02)

    def test_KF_04_pieces_of_a_range_are_read_at_once(self):
        self.create(2)
        self.produce(0, events(0, 1000))
        self.produce(1, events(1000, 1010))
        for options in ({"minPartitions": "8"}, {"maxRecordsPerPartition": "100"}, {}):
            shutil.rmtree(os.path.join(self.dir, "out"), True)
            shutil.rmtree(os.path.join(self.dir, "cp"), True)
            self.run_sql("SET workers = 4;\n" + self.sql(**options))
            self.assertEqual(self.ids(), list(range(1010)), options)
        self.run_sql(self.sql(minPartitions="2", empty_partitions="true"), 78, "empty_partitions")

    def test_KF_05_specific_starting_offsets(self):
        self.create(5)
        for partition in range(5):
            self.produce(partition, self.ids_of(range(partition * 10, partition * 10 + 3)))
        start = json.dumps({self.topic: {"0": -2, "1": -1, "2": 0, "3": 1, "4": 2}})
        self.run_sql(self.sql(start=start))
        self.assertEqual(self.ids(), [0, 1, 2, 20, 21, 22, 31, 32, 42])

    def test_KF_10_a_time_that_no_record_reaches_begins_at_the_end(self):
        self.create(2)
        self.produce(0, events(0, 3))
        self.produce(1, events(10, 13))
        late = str(int(time.time() * 1000) + 3600 * 1000)
        self.run_sql(self.sql(startingTimestamp=late))
        self.assertEqual(self.ids(), [])
        self.produce(1, events(13, 15))
        self.run_sql(self.sql(startingTimestamp=late))
        self.assertEqual(self.ids(), [13, 14])

    def test_KF_11_partitions_added_while_a_planned_batch_waits(self):
        self.create(1)
        self.produce(0, events(0, 5))
        self.run_sql(self.sql())
        self.produce(0, events(5, 10))
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write(self.sql(select="CASE WHEN id = 9 THEN error('stop') ELSE id END AS id"))
        # the batch is planned and fails: it has no commit
        failed = subprocess.run([BIN, "run", "--until-caught-up", "q.sql"], cwd=self.dir,
                                capture_output=True, text=True, check=False, timeout=WAIT)
        self.assertNotEqual(failed.returncode, 0)
        self.broker.tool("grow", self.topic, 3)
        self.produce(2, events(20, 22))
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), list(range(10)) + [20, 21])

    # --- what the log does not show ----------------------------------------------------------------

    def test_aborted_transactions_are_not_read_and_end_no_batch_late(self):
        self.create()
        self.produce(0, events(0, 5))
        self.produce(0, events(100, 110), "abort")
        self.produce(0, events(5, 10), "commit")
        self.produce(0, events(200, 205), "abort")  # the log ends with what nobody may see
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), list(range(10)))

    def test_a_range_of_nothing_but_aborted_records_is_an_empty_batch(self):
        self.create()
        self.produce(0, events(100, 110), "abort")
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), [])
        self.produce(0, events(0, 2))
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), [0, 1])

    def test_an_open_transaction_holds_the_end_back(self):
        self.create(4)  # enough partitions to ask for all offsets at once
        self.produce(0, events(0, 3))
        self.produce(0, events(100, 105), "hang")
        self.produce(0, events(3, 5))
        self.run_sql(self.sql())
        self.assertEqual(self.ids(), [0, 1, 2])
        deadline = time.monotonic() + 60  # the broker aborts it after its timeout of 10 seconds
        while self.ids() != [0, 1, 2, 3, 4] and time.monotonic() < deadline:
            self.run_sql(self.sql())
        self.assertEqual(self.ids(), [0, 1, 2, 3, 4])

    def test_uncommitted_records_are_read_on_request(self):
        self.create()
        self.produce(0, events(7, 9), "abort")
        self.run_sql(self.sql(kafka__isolation__level="read_uncommitted"))
        self.assertEqual(self.ids(), [7, 8])

    def test_gaps_of_compaction_are_not_loss(self):
        self.create(1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01",
                    "segment.bytes=1048576", "delete.retention.ms=100")
        for turn in range(3):
            self.produce(0, [f"k{i % 4}\t" + json.dumps({"id": turn * 100 + i, "city": "x"}) for i in range(12)])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.produce(0, ["roll\t" + json.dumps({"id": 999, "city": "x"})])  # rolls the segment
            left = self.broker.tool("dump", self.topic).splitlines()
            if len(left) < 30:
                break
        self.assertLess(len(left), 30, "the broker did not compact")
        self.run_sql(self.sql())
        ids = self.ids()
        self.assertIn(999, ids)
        self.assertTrue(set(ids) <= set(range(300)) | {999})
        for newest in (208, 209, 210, 211):
            self.assertEqual(ids.count(newest), 1)

    # --- loss -------------------------------------------------------------------------------------

    def test_deleted_records_are_data_loss_with_their_range(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql(max_offsets_per_trigger="5"), args=("--once",))
        self.produce(0, events(10, 40))
        self.broker.tool("truncate", self.topic, 0, 30)
        self.run_sql(self.sql(), 65, "offsets 10 to 29 are gone")
        self.run_sql(self.sql(fail_on_data_loss="false"))
        self.assertEqual(self.ids(), list(range(10)) + list(range(30, 40)))

    def test_a_deleted_topic_is_data_loss_and_never_waited_for(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql())
        self.broker.tool("delete", self.topic)
        self.run_sql(self.sql(), 65)

    def test_a_topic_made_again_is_data_loss(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql())
        self.broker.tool("delete", self.topic)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.create()
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
        self.produce(0, events(0, 30))  # more than there was: only the topic's id tells
        self.run_sql(self.sql(), 65, "made again")
        self.assertEqual(self.ids(), list(range(10)))

    # --- records ----------------------------------------------------------------------------------

    def test_metadata_columns_come_beside_decoded_ones(self):
        self.create(2)
        self.produce(1, ["k1\t" + json.dumps({"id": 1, "city": "a\nb"}), "k2\t"])
        self.run_sql(self.sql("id BIGINT, city VARCHAR, key VARCHAR, topic VARCHAR, partition INTEGER, \"offset\" BIGINT, "
                              "timestamp TIMESTAMP",
                              "id, city, key, topic, partition, \"offset\", timestamp IS NOT NULL AS timed"))
        self.assertEqual(self.rows(), [
            {"id": 1, "city": "a\nb", "key": "k1", "topic": self.topic, "partition": 1, "offset": 0, "timed": True},
            {"key": "k2", "topic": self.topic, "partition": 1, "offset": 1, "timed": True}])  # nulls are left out

    def test_text_has_the_value_as_it_is(self):
        self.create()
        self.produce(0, ["plain", "k\twith key"])
        self.run_sql(self.sql("key VARCHAR, value VARCHAR", "key, value", "text"))
        self.assertEqual(self.rows(), [{"value": "plain"}, {"key": "k", "value": "with key"}])

    def test_a_bad_record_is_named_by_topic_partition_and_offset(self):
        self.create()
        self.produce(0, events(0, 2) + ["{\"id\": "] + events(3, 5))
        self.run_sql(self.sql(), 65, f"topic {self.topic}/0 offset")
        self.run_sql(self.sql(on_error="skip"))
        self.assertEqual(self.ids(), [0, 1, 3, 4])

    # --- connections ------------------------------------------------------------------------------

    def test_an_unreachable_broker_ends_with_its_cause(self):
        port = kafka_broker.free_ports(1)[0]
        self.run_sql(self.sql(brokers=f"127.0.0.1:{port},no-such-host.invalid:9092", connect_timeout="1s"), 69,
                     "Connection refused")

    def test_E20_brokers_that_name_hosts_which_are_not_listed_are_not_connected_to(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql(connect_timeout="1s", broker_hosts="*.example.com, 10.1.0.0/16"), 69, "is not among 'broker_hosts'")
        self.run_sql(self.sql(broker_hosts="10.1.0.0/40"), 78, "broker_hosts")
        self.run_sql(self.sql(broker_hosts="localhost, 127.0.0.0/8"))
        self.assertEqual(self.ids(), list(range(10)))

    def test_E12_leaders_epochs_are_told_by_brokers_and_kept_with_the_plan(self):
        self.create()
        self.produce(0, events(0, 10))
        self.run_sql(self.sql())
        logs = [os.path.join(self.dir, "cp", "log", name) for name in os.listdir(os.path.join(self.dir, "cp", "log"))]
        self.assertIn(b"@epoch", b"".join(open(log, "rb").read() for log in logs))

    def test_a_missing_topic_is_a_configuration_error(self):
        self.run_sql(self.sql(), 78, "create it")

    def test_wrong_options_are_named(self):
        self.run_sql(self.sql(kafka__no__such="1"), 78, "kafka.no.such")
        self.run_sql(self.sql(kafka__enable__auto__commit="true"), 78, "offsets are kept in the checkpoint")
        self.run_sql(self.sql(assign="{}"), 78, "exactly one of")

    def secured(self, mechanism, user, password, brokers, **more):
        return self.sql(brokers=brokers, kafka__security__protocol="SASL_SSL" if more else "SASL_PLAINTEXT",
                        kafka__sasl__mechanism=mechanism, kafka__sasl__username=user, kafka__sasl__password=password,
                        **more)

    def test_sasl_plain_and_scram_work_and_wrong_passwords_end_at_once(self):
        self.create()
        self.produce(0, events(0, 3))
        for mechanism, user in (("PLAIN", "alice"), ("SCRAM-SHA-256", "bob"), ("SCRAM-SHA-512", "bob")):
            with self.subTest(mechanism):
                for folder in ("cp", "out"):
                    shutil.rmtree(os.path.join(self.dir, folder), True)
                self.run_sql(self.secured(mechanism, user, f"canary-{user}-pw", self.broker.sasl))
                self.assertEqual(self.ids(), [0, 1, 2])
                shutil.rmtree(os.path.join(self.dir, "cp"))
                shutil.rmtree(os.path.join(self.dir, "out"))
                started = time.monotonic()
                done = self.run_sql(self.secured(mechanism, user, "secret-word", self.broker.sasl), 77, "refuse")
                self.assertLess(time.monotonic() - started, 10)
                self.assertNotIn("secret-word", done.stderr + done.stdout)

    def test_tls_works_and_a_wrong_authority_is_named(self):
        if not self.broker.has_tls:
            self.skipTest("no openssl to make certificates with")
        self.create()
        self.produce(0, events(0, 3))
        authority = {"kafka__security__protocol": "SSL",
                     "kafka__ssl__ca__location": os.path.join(self.broker.dir, "ca.pem")}
        self.run_sql(self.sql(brokers=self.broker.tls, **authority))
        self.assertEqual(self.ids(), [0, 1, 2])
        authority["kafka__ssl__ca__location"] = os.path.join(self.broker.dir, "other-ca.pem")
        self.run_sql(self.sql(brokers=self.broker.tls, **authority), 77, "certificate")
        for folder in ("cp", "out"):
            shutil.rmtree(os.path.join(self.dir, folder), True)
        self.run_sql(self.secured("SCRAM-SHA-512", "bob", "canary-bob-pw", self.broker.sasl_tls,
                                  kafka__ssl__ca__location=os.path.join(self.broker.dir, "ca.pem")))
        self.assertEqual(self.ids(), [0, 1, 2])

    # --- kills ------------------------------------------------------------------------------------

    def start(self, sql):
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write(sql)
        return subprocess.Popen([BIN, "run", "q.sql"], cwd=self.dir, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def wait_for_ids(self, wanted):
        deadline = time.monotonic() + WAIT
        ids = []
        while time.monotonic() < deadline:
            try:
                ids = self.ids()
            except (json.JSONDecodeError, FileNotFoundError):
                continue
            if len(ids) >= wanted:
                return ids
            time.sleep(0.05)
        self.fail(f"{len(ids)} of {wanted} rows after {WAIT} seconds")

    def test_kill_of_millrace_in_the_middle_loses_and_doubles_nothing(self):
        self.create(2)
        total = 20000
        feeder = threading.Thread(target=lambda: [self.produce(part % 2, events(part * 1000, part * 1000 + 1000))
                                                  for part in range(total // 1000)])
        feeder.start()
        sql = self.sql(max_offsets_per_trigger="500")
        wanted = 0
        try:
            for _ in range(6):
                process = self.start(sql)
                wanted = min(wanted + 1500, total)
                self.wait_for_ids(wanted)
                process.kill()
                process.wait()
                process.stderr.close()
        finally:
            feeder.join()
        self.run_sql(sql)
        self.assertEqual(self.ids(), list(range(total)))

    def test_kill_of_the_broker_in_the_middle_loses_and_doubles_nothing(self):
        self.create(2)
        total = 30000
        for part in range(2):
            self.produce(part, events(part * total // 2, (part + 1) * total // 2))
        process = self.start(self.sql(max_offsets_per_trigger="1000").replace("'3s'", "'100s'"))
        try:
            self.wait_for_ids(3000)
            self.broker.kill()
            self.broker.start()
            self.wait_for_ids(total)
            process.send_signal(signal.SIGINT)
            _, text = process.communicate(timeout=WAIT)
            self.assertEqual(process.returncode, 0, text)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
        self.assertEqual(self.ids(), list(range(total)))

    # --- the sink ---------------------------------------------------------------------------------

    def sink_sql(self, columns, fmt, select, **options):
        given = {"connector": "kafka", "brokers": self.broker.plain, "topic": self.topic, "format": fmt}
        given.update({key.replace("__", "."): value for key, value in options.items()})
        table = ", ".join(f"\"{key}\" = '{value}'" for key, value in given.items() if value is not None)
        return ("SET checkpoint = 'cp'; SET unavailable_timeout = '3s';\n"
                "CREATE TABLE src (id BIGINT, city VARCHAR) WITH (connector = 'datagen', rows = '100', "
                "\"fields.id.kind\" = 'sequence', \"fields.city.choices\" = 'a,b');\n"
                f"CREATE TABLE dst ({columns}) WITH ({table});\nINSERT INTO dst {select};\n")

    def test_rows_become_json_records_with_keys(self):
        self.create(2)
        self.run_sql(self.sink_sql("id BIGINT, city VARCHAR", "json", "SELECT id, city FROM src", key_column="city"))
        lines = [line.split(" ", 3) for line in self.broker.tool("dump", self.topic).splitlines()]
        self.assertEqual(sorted(json.loads(line[3])["id"] for line in lines), list(range(100)))
        self.assertTrue(all(json.loads(line[3])["city"] == line[2] for line in lines))
        for key in "ab":  # a key stays in its partition
            self.assertEqual(len({line[0] for line in lines if line[2] == key}), 1)

    def test_columns_key_value_topic_and_partition_are_used(self):
        self.create(2)
        self.run_sql(self.sink_sql(
            "key VARCHAR, value VARCHAR, topic VARCHAR, partition INTEGER", "text",
            "SELECT city AS key, CASE WHEN id = 3 THEN NULL ELSE CAST(id AS VARCHAR) END AS value, "
            f"'{self.topic}' AS topic, CAST(id % 2 AS INTEGER) AS partition FROM src", topic=None))
        lines = [line.split(" ") for line in self.broker.tool("dump", self.topic).splitlines()]
        self.assertEqual(len(lines), 100)
        self.assertTrue(all(line[3] == "null" or int(line[3]) % 2 == int(line[0]) for line in lines))
        self.assertEqual([line[3] for line in lines].count("null"), 1)

    def test_a_sink_without_its_topic_or_broker_says_so(self):
        self.run_sql(self.sink_sql("id BIGINT, city VARCHAR", "json", "SELECT id, city FROM src"), 78, "create it")
        shutil.rmtree(os.path.join(self.dir, "cp"), True)
        port = kafka_broker.free_ports(1)[0]
        self.run_sql(self.sink_sql("id BIGINT, city VARCHAR", "json", "SELECT id, city FROM src",
                                   brokers=f"127.0.0.1:{port}", delivery_timeout="1s"), 69, "Connection refused")

    def test_the_sink_says_that_it_is_at_least_once(self):
        self.create()
        done = self.run_sql(self.sink_sql("id BIGINT, city VARCHAR", "json", "SELECT id, city FROM src"),
                            args=("--until-caught-up", "--log-level", "info"))
        self.assertIn("at-least-once", done.stderr)


if __name__ == "__main__":
    unittest.main()
