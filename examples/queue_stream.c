/* A stream without a network: numbers pushed by the program, counted by their last digit. Ends by
 * itself. */
#include <millrace/dstream.h>

#include <stdio.h>

int main(void)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("queue-stream", MR_MILLISECONDS(200));
    struct mr_dstream *numbers = mr_queue_stream(ctx, queue, true);
    struct mr_dstream *digits = mr_map_to_pair(numbers, MR_SQL("value % 10, 1"));
    int64_t values[1000];
    int code;

    for (int64_t batch = 0; batch < 5; batch++) {
        for (int64_t i = 0; i < 1000; i++)
            values[i] = batch * 1000 + i;
        mr_queue_push_ints(queue, values, 1000);
    }
    mr_print(mr_reduce_by_key(digits, MR_SUM), 10);
    mr_context_set(ctx, "batches_max", "5");
    code = mr_context_main(ctx);
    mr_queue_free(queue);
    return code;
}
