/*
 * Running counts of words with mapWithState: map_with_state_word_count HOST PORT CHECKPOINT
 *
 * The guide's StatefulNetworkWordCount: each word that comes gives its new count; only keys of the
 * batch are touched. A word that did not come for a minute is forgotten.
 */
#include <millrace/dstream.h>

#include <stdio.h>
#include <stdlib.h>

static void count(const struct mr_state_call *word, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_key_state_get(word->state);
    struct mr_slice text = mr_row_text(word->key, 0);
    int64_t sum = state != NULL ? mr_row_int(state, 0) : 0;

    (void)arg;
    if (mr_key_state_timing_out(word->state))
        return;
    sum += mr_row_int(word->value, 0);
    mr_key_state_update_int(word->state, sum);
    mr_emit_pair_str_int(out, text.data, text.size_bytes, sum);
}

static struct mr_context *build(void *arg)
{
    char **args = arg;
    struct mr_context *ctx = mr_context_new("map-with-state-word-count", MR_SECONDS(1));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, args[1], (int)strtol(args[2], NULL, 10));
    struct mr_dstream *words = mr_map_to_pair(mr_flat_map(lines, MR_WORDS), MR_COUNT);
    struct mr_fn fn = MR_FN_AS(count, "key VARCHAR, value BIGINT");
    struct mr_state_spec spec = {.name = "counts", .function = fn, .timeout_ms = MR_MINUTES(1)};

    mr_print(mr_map_with_state(words, &spec), 10);
    return ctx;
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return mr_context_main(mr_context_get_or_create(argv[3], build, argv));
    fprintf(stderr, "usage: map_with_state_word_count HOST PORT CHECKPOINT\n");
    return 64;
}
