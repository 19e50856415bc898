/* Budgets, arenas, buffers, the reader over bytes, and the texts of errors. */
#include "support/test.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"

#include <errno.h>

TEST(a_budget_and_its_parent_are_charged_and_discharged)
{
    size_t before = mr_budget_used(NULL);
    struct mr_budget *parent = mr_budget_new(NULL, "parent", 0);
    struct mr_budget *child = mr_budget_new(parent, "child", 0);
    void *memory = mr_alloc(child, 1000);

    CHECK_NOT_NULL(memory);
    CHECK(mr_budget_used(child) >= 1000);
    CHECK_EQ_UINT(mr_budget_used(parent), mr_budget_used(child));
    memory = mr_realloc(NULL, memory, 5000); /* keeps the budget it has */
    CHECK(mr_budget_used(child) >= 5000);
    memory = mr_realloc(child, memory, 10);
    CHECK(mr_budget_used(child) < 100);
    mr_free(memory);
    CHECK_EQ_UINT(mr_budget_used(child), 0);
    CHECK(mr_budget_peak(parent) >= 5000);
    mr_budget_free(child);
    mr_budget_free(parent);
    CHECK_EQ_UINT(mr_budget_used(NULL), before);
}

TEST(an_allocation_past_the_limit_of_a_budget_or_its_parent_fails_and_charges_nothing)
{
    struct mr_budget *parent = mr_budget_new(NULL, "parent", 2000);
    struct mr_budget *child = mr_budget_new(parent, "child", 0);
    void *memory = mr_alloc(child, 1000);

    CHECK_NOT_NULL(memory);
    CHECK_NULL(mr_alloc(child, 1000));
    CHECK_NULL(mr_realloc(child, memory, 3000));
    CHECK(mr_budget_used(child) < 1100);
    CHECK_EQ_UINT(mr_budget_used(parent), mr_budget_used(child));
    mr_free(memory);
    mr_budget_free(child);
    mr_budget_free(parent);
}

TEST(freeing_a_budget_that_is_still_charged_is_our_mistake)
{
    CHECK_ABORTS({
        struct mr_budget *budget = mr_budget_new(NULL, "leaky", 0);
        void *volatile memory = mr_alloc(budget, 1);

        MR_UNUSED(memory);
        mr_budget_free(budget);
    });
}

TEST(the_nth_allocation_fails_once_or_for_ever)
{
    void *memory;

    mr_alloc_fail_at(2, false);
    memory = mr_alloc(NULL, 1);
    CHECK_NOT_NULL(memory);
    mr_free(memory);
    CHECK_NULL(mr_alloc(NULL, 1));
    memory = mr_alloc(NULL, 1);
    CHECK_NOT_NULL(memory);
    mr_free(memory);
    mr_alloc_fail_at(1, true);
    CHECK_NULL(mr_alloc(NULL, 1));
    CHECK_NULL(mr_alloc_zero(NULL, 1));
    CHECK_NULL(mr_alloc_aligned(NULL, 1));
    mr_alloc_fail_at(0, false);
    memory = mr_alloc(NULL, 1);
    CHECK_NOT_NULL(memory);
    mr_free(memory);
}

TEST(aligned_memory_stays_aligned_when_it_grows)
{
    uint8_t *memory = mr_alloc_aligned(NULL, 100);

    CHECK_EQ_UINT((uintptr_t)memory % 64, 0);
    memory[99] = 7;
    memory = mr_realloc(NULL, memory, 100000);
    CHECK_EQ_UINT((uintptr_t)memory % 64, 0);
    CHECK_EQ_INT(memory[99], 7);
    memory[99999] = 1;
    mr_free(memory);
}

TEST(an_impossible_size_is_refused)
{
    CHECK_NULL(mr_alloc(NULL, SIZE_MAX));
    CHECK_NULL(mr_alloc_aligned(NULL, SIZE_MAX - 8));
}

TEST(an_arena_gives_aligned_memory_of_all_sizes_and_can_be_used_again)
{
    struct mr_arena arena = MR_ARENA_INIT;
    size_t before = mr_budget_used(NULL);

    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 20000; size += 97) {
            char *memory = mr_arena_alloc(&arena, size);

            CHECK_EQ_UINT((uintptr_t)memory % 8, 0);
            memset(memory, 1, size);
        }
        mr_arena_clear(&arena);
    }
    CHECK_EQ_STR(mr_arena_copy(&arena, "hello", 4), "hell");
    mr_arena_release(&arena);
    CHECK_EQ_UINT(mr_budget_used(NULL), before);
}

TEST(an_arena_without_memory_gives_null_and_stays_usable)
{
    struct mr_arena arena = MR_ARENA_INIT;

    mr_alloc_fail_at(1, false);
    CHECK_NULL(mr_arena_alloc(&arena, 10));
    CHECK_NOT_NULL(mr_arena_alloc(&arena, 10));
    mr_arena_release(&arena);
}

TEST(a_buffer_grows_and_is_always_terminated)
{
    struct mr_buf buf = MR_BUF_INIT;
    char *text;

    for (int i = 0; i < 1000; i++)
        mr_buf_printf(&buf, "%d,", i % 10);
    CHECK_EQ_UINT(buf.size, 2000);
    CHECK_EQ_INT(buf.data[2000], 0);
    mr_buf_clear(&buf);
    CHECK_EQ_STR(buf.data, "");
    mr_buf_add_str(&buf, "ab");
    mr_buf_add_char(&buf, 'c');
    text = mr_buf_take(&buf);
    CHECK_EQ_STR(text, "abc");
    CHECK_NULL(buf.data);
    mr_free(text);
    text = mr_buf_take(&buf); /* an empty one is an empty text */
    CHECK_EQ_STR(text, "");
    mr_free(text);
}

TEST(a_buffer_that_failed_once_takes_nothing_more)
{
    struct mr_buf buf = MR_BUF_INIT;

    mr_buf_add_str(&buf, "start");
    mr_alloc_fail_at(1, false);
    CHECK(!mr_buf_reserve(&buf, 10000));
    mr_buf_add_str(&buf, "x");
    CHECK(buf.failed);
    CHECK_EQ_STR(buf.data, "start");
    CHECK_NULL(mr_buf_take(&buf));
}

TEST(what_a_buffer_writes_the_reader_reads)
{
    static const uint64_t numbers[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_bytes bytes;
    const char *block;
    size_t size;

    mr_buf_add_u8(&buf, 200);
    mr_buf_add_u32(&buf, 0x01020304);
    mr_buf_add_u64(&buf, 0x0102030405060708);
    for (size_t i = 0; i < MR_ARRAY_SIZE(numbers); i++)
        mr_buf_add_varint(&buf, numbers[i]);
    mr_buf_add_block(&buf, "block", 5);
    CHECK_EQ_INT(buf.data[1], 4); /* little-endian */
    bytes = mr_bytes_of(buf.data, buf.size);
    CHECK_EQ_UINT(mr_bytes_u8(&bytes), 200);
    CHECK_EQ_UINT(mr_bytes_u32(&bytes), 0x01020304);
    CHECK_EQ_UINT(mr_bytes_u64(&bytes), 0x0102030405060708);
    for (size_t i = 0; i < MR_ARRAY_SIZE(numbers); i++)
        CHECK_EQ_UINT(mr_bytes_varint(&bytes), numbers[i]);
    block = mr_bytes_block(&bytes, &size);
    CHECK_EQ_UINT(size, 5);
    CHECK_EQ_MEM(block, "block", 5);
    CHECK_EQ_UINT(mr_bytes_left(&bytes), 0);
    CHECK(!bytes.failed);
    CHECK_EQ_UINT(mr_bytes_u8(&bytes), 0);
    CHECK(bytes.failed);
    mr_buf_release(&buf);
}

TEST(the_reader_refuses_bad_lengths_and_bad_varints)
{
    static const uint8_t long_block[] = {200, 1, 'a'};
    static const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    static const uint8_t too_big[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2};
    static const uint8_t longer_than_needed[] = {0x80, 0};
    struct mr_bytes bytes = mr_bytes_of(long_block, sizeof(long_block));
    size_t size = 99;

    CHECK_NULL(mr_bytes_block(&bytes, &size));
    CHECK(bytes.failed);
    CHECK_EQ_UINT(size, 0);
    bytes = mr_bytes_of(endless, sizeof(endless));
    CHECK_EQ_UINT(mr_bytes_varint(&bytes), 0);
    CHECK(bytes.failed);
    bytes = mr_bytes_of(too_big, sizeof(too_big));
    CHECK_EQ_UINT(mr_bytes_varint(&bytes), 0);
    CHECK(bytes.failed);
    bytes = mr_bytes_of(longer_than_needed, sizeof(longer_than_needed));
    CHECK_EQ_UINT(mr_bytes_varint(&bytes), 0);
    CHECK(bytes.failed);
    bytes = mr_bytes_of(NULL, 0);
    CHECK_EQ_UINT(mr_bytes_left(&bytes), 0);
}

TEST(checksums_never_change)
{
    CHECK_EQ_UINT(mr_checksum("", 0), 0x2d06800538d394c2);
    CHECK_EQ_UINT(mr_checksum("millrace", 8), mr_hash("millrace", 8, 0));
    CHECK(mr_hash("millrace", 8, 1) != mr_hash("millrace", 8, 2));
}

TEST(an_error_keeps_status_errno_and_place_and_takes_its_own_text_as_argument)
{
    struct mr_error err = {0};

    errno = ENOSPC;
    CHECK_STATUS(MR_FAIL(&err, MR_IO, "cannot write '%s'", "x"), MR_IO);
    CHECK_EQ_INT(err.os_errno, ENOSPC);
    CHECK_CONTAINS(err.file, "test_base_memory.c");
    CHECK_STATUS(MR_FAIL(&err, MR_BAD_DATA, "outer: %s", err.text), MR_BAD_DATA);
    CHECK_EQ_STR(err.text, "outer: cannot write 'x'");
    CHECK_EQ_INT(err.os_errno, 0); /* bad data has no errno, whatever is left over in it */
    CHECK_STATUS(mr_error_prefix(&err, "query '%s'", "q"), MR_BAD_DATA);
    CHECK_EQ_STR(err.text, "query 'q': outer: cannot write 'x'");
    CHECK_STATUS(MR_FAIL(NULL, MR_IO, "nobody looks"), MR_IO);
}

TEST(an_error_text_is_one_line_and_cut_between_characters)
{
    struct mr_error err;
    char text[600];

    MR_FAIL(&err, MR_BAD_DATA, "a\nb\tc");
    CHECK_EQ_STR(err.text, "a b c");
    memset(text, 'x', sizeof(text));
    memcpy(text + 474, "\xc3\xa4\xc3\xa4\xc3\xa4", 6);
    text[599] = '\0';
    MR_FAIL(&err, MR_BAD_DATA, "%s", text);
    CHECK(strlen(err.text) < MR_ERROR_TEXT_BYTES);
    CHECK_CONTAINS(err.text, "x\xc3\xa4...");
    mr_error_prefix(&err, "%s", text);
    CHECK(strlen(err.text) < MR_ERROR_TEXT_BYTES);
    for (size_t size = 460; size < 485; size++) {
        MR_FAIL(&err, MR_BAD_DATA, "%s", "tail of the text that is put behind");
        mr_error_prefix(
            &err, "%.*s", (int)size,
            "0123456789012345678901234567890123456789012345678"
            "901234567890123456789012345678901234567890123456789012345678901234567890123"
            "901234567890123456789012345678901234567890123456789012345678901234567890123"
            "901234567890123456789012345678901234567890123456789012345678901234567890123"
            "901234567890123456789012345678901234567890123456789012345678901234567890123"
            "901234567890123456789012345678901234567890123456789012345678901234567890123"
            "901234567890123456789012345678901234567890123456789012345678901234567890123");
        CHECK_EQ_UINT(strlen(err.text), 479);
        CHECK_EQ_STR(err.text + 476, "...");
    }
}

TEST(every_status_has_a_name_a_text_and_an_exit_code)
{
    CHECK_EQ_STR(mr_status_name(MR_CORRUPT), "MR_CORRUPT");
    CHECK_EQ_STR(mr_status_text(MR_CORRUPT), "damaged checkpoint");
    CHECK_EQ_INT(mr_status_exit_code(MR_STOPPED), 0);
    CHECK_EQ_INT(mr_status_exit_code(MR_CONFIG), 78);
    CHECK(mr_status_retriable(MR_UNAVAILABLE));
    CHECK(!mr_status_retriable(MR_IO));
    CHECK_EQ_STR(mr_status_name((enum mr_status)999), "MR_UNKNOWN");
}
