/*
 * Any bytes through the CSV decoder; the first byte chooses the options. What was read is written
 * and read back to the same text, pieces give what the whole gives, and so on (formats.h).
 */
#include "fuzz/formats.h"

static const struct mr_option_pair choices[][3] = {
    {{"delimiter", ","}, {"null_value", ""}, {"header", "false"}},
    {{"delimiter", "\\t"}, {"escape", "\\"}, {"header", "false"}},
    {{"quote", "'"}, {"null_value", "NULL"}, {"header", "false"}},
    {{"delimiter", ";"}, {"header", "true"}, {"null_value", "-"}},
    {{"delimiter", ","}, {"max_line_bytes", "16 B"}, {"header", "false"}},
    {{"delimiter", ","}, {"timestamp_format", "epoch_ms"}, {"header", "false"}},
};
static const struct mr_option_pair written[][3] = {
    [4] = {{"delimiter", ","}, {"null_value", ""}, {"header", "false"}},
    [5] = {{"delimiter", ","}, {"null_value", ""}, {"header", "false"}},
};
enum { CHOICES = sizeof choices / sizeof choices[0] };

static void one(const uint8_t *data, size_t size)
{
    uint8_t choice = size == 0 ? 0 : data[0] % CHOICES;
    struct fuzz_format run = {
        .format = &mr__format_csv,
        .columns = "n BIGINT, t TEXT, d DOUBLE, b BOOLEAN, ts TIMESTAMP, m DECIMAL(10,2)",
        .wanted = size > 0 && data[0] >= 128 ? "t TEXT, b BOOLEAN" : NULL,
        .pairs = choices[choice],
        .pair_count = 3,
        .whole = choice == 3,
        .write_pairs = choice >= 4 ? written[choice] : NULL,
        .write_pair_count = 3,
    };

    if (size > 0)
        fuzz_format_laws(&run, (const char *)data + 1, size - 1);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
