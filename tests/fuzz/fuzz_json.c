/*
 * Any bytes through the JSON decoder, with prediction and the general way: both give the same rows
 * and the same reports. What was read is written and read back without a complaint (formats.h). The
 * first byte chooses columns and options.
 */
#include "fuzz/formats.h"

#include "formats/json_internal.h"

#include <string.h>

static const char columns[] =
    "n BIGINT, i TINYINT, t TEXT, d DOUBLE, m DECIMAL(10,2), b BOOLEAN, dt DATE, ts TIMESTAMP, "
    "l INT[], s STRUCT(x INT, t TEXT, p STRUCT(q INT[])[])";
static const char flat[] = "a BIGINT, b VARCHAR, c DOUBLE, ts TIMESTAMP";

static void general(struct mr_decoder *decoder)
{
    mr__json_set_predict(decoder, false);
}

static void predict(struct mr_decoder *decoder)
{
    mr__json_set_predict(decoder, true);
}

static void one(const uint8_t *data, size_t size)
{
    static const struct mr_option_pair pairs[] = {
        {"timestamp_format", "epoch_ms"}, {"max_line_bytes", "64 B"}, {"timestamp_format", "iso"}};
    struct fuzz_format run = {.format = &mr__format_json, .columns = columns, .prepare = predict};
    struct fuzz_decoded fast, slow = {0};
    struct fuzz_format other;
    uint8_t choice = size == 0 ? 0 : data[0];

    if (size == 0)
        return;
    if ((choice & 1) != 0)
        run.columns = flat;
    if ((choice & 2) != 0)
        run.wanted = (choice & 1) != 0 ? "b VARCHAR, ts TIMESTAMP"
                                       : "t TEXT, s STRUCT(x INT, t "
                                         "TEXT, p STRUCT(q INT[])[])";
    if ((choice & 12) == 12) {
        run.pairs = &pairs[(choice >> 4) % 3];
        run.pair_count = 1;
        run.write_pairs = &pairs[2];
        run.write_pair_count = 0;
    }
    other = run;
    other.prepare = general;
    if (fuzz_decode(&run, (const char *)data + 1, size - 1, &fast) &&
        fuzz_decode(&other, (const char *)data + 1, size - 1, &slow)) {
        FUZZ_SAME(&fast.rows, &slow.rows);
        FUZZ_SAME(&fast.bad, &slow.bad);
        fuzz_format_laws(&run, (const char *)data + 1, size - 1);
    }
    fuzz_decoded_release(&fast);
    fuzz_decoded_release(&slow);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
