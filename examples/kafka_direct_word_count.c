/*
 * Counts words of Kafka topics since the beginning: kafka_direct_word_count
 * BROKERS TOPICS CHECKPOINT
 *
 * The guide's DirectKafkaWordCount. Each batch reads the offset ranges that its
 * plan wrote down, so after a kill every record is counted exactly once.
 */
#include <millrace/kafka.h>

#include <stdio.h>

static struct mr_context *build(void *arg) {
  char **args = arg;
  struct mr_context *ctx =
      mr_context_new("kafka-direct-word-count", MR_SECONDS(1));
  struct mr_kafka_direct spec = {
      .brokers = args[1], .topics = args[2], .reset = MR_KAFKA_EARLIEST};
  struct mr_dstream *lines =
      mr_map(mr_kafka_direct_stream(ctx, &spec), MR_SQL("value"));
  struct mr_dstream *pairs =
      mr_map_to_pair(mr_flat_map(lines, MR_WORDS), MR_COUNT);

  mr_print(mr_update_state_by_key(pairs, "counts", MR_SUM), 10);
  return ctx;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr,
            "usage: kafka_direct_word_count BROKERS TOPICS CHECKPOINT\n");
    return 64;
  }
  return mr_context_main(mr_context_get_or_create(argv[3], build, argv));
}
