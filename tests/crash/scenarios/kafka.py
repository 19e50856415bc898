"""Kafka to files through the SQL command, on a real broker shared by all cases."""

import json
import pathlib
import sys

from files import FilesToFiles

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "system"))
import kafka_broker  # pylint: disable=wrong-import-position

TOPIC = "words"
PARTITIONS = 2


class KafkaToFiles(FilesToFiles):
    """The topic is only read, so all cases share it; a batch is at most five records."""

    name = "kafka-to-file"
    timeout_s = 60

    def missing(self):
        return super().missing() or kafka_broker.missing()

    def once(self, root):
        self.broker = kafka_broker.Broker(str(root / "kafka")).start()
        self.broker.tool("create", TOPIC, PARTITIONS)
        rows = [row for rows in self.rows() for row in rows]
        for partition in range(PARTITIONS):
            self.broker.tool("produce", TOPIC, partition, lines=[
                json.dumps(row) for row in rows if row["id"] % PARTITIONS == partition])

    def once_done(self):
        self.broker.kill()

    def prepare(self, work):
        (work / "q.sql").write_text(self.sql(work))

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE words (id BIGINT, word TEXT)
  WITH (connector = 'kafka', brokers = '{self.broker.plain}', topic = '{TOPIC}',
        format = 'json', start = 'earliest', maxOffsetsPerTrigger = 5);
CREATE TABLE loud (id BIGINT, word TEXT)
  WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO loud SELECT id, upper(word) AS word FROM words WHERE id % 5 <> 3;
"""


SCENARIOS = [KafkaToFiles]
