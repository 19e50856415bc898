/* Counts words of Kafka topics, batch by batch, and commits the offsets of each batch to the group:
 * direct_kafka_word_count BROKERS GROUP TOPIC,TOPIC,... */
#include <millrace/kafka.h>

#include <stdio.h>

/* Outputs run in their order: when this one runs, the batch was printed. */
static enum mr_status commit(struct mr_rdd *rdd, int64_t batch_time_ms, void *stream,
                             struct mr_error *err)
{
    struct mr_kafka_range *ranges = NULL;
    size_t count = 0;
    enum mr_status status;

    (void)rdd;
    (void)batch_time_ms;
    status = mr_kafka_offset_ranges(stream, &ranges, &count, err);
    if (status == MR_OK)
        status = mr_kafka_commit_async(stream, ranges, count, NULL, NULL, err);
    mr_kafka_ranges_free(ranges);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: direct_kafka_word_count BROKERS GROUP TOPIC,TOPIC,...\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("direct-kafka-word-count", MR_SECONDS(2));
    struct mr_kafka_direct kafka = {.brokers = argv[1], .group_id = argv[2], .topics = argv[3]};
    struct mr_dstream *messages = mr_kafka_direct_stream(ctx, &kafka);
    struct mr_dstream *words = mr_flat_map(messages, MR_SQL("string_split(value, ' ')"));
    struct mr_dstream *counts = mr_reduce_by_key(mr_map_to_pair(words, MR_COUNT), MR_SUM);

    mr_print(counts, 10);
    mr_foreach_rdd(messages, commit, messages);
    return mr_context_main(ctx);
}
