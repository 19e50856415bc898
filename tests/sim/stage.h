/*
 * A stage for one scene: a program of SQL text over the simulated cluster and database, where a
 * test says what happens and when. run.h has the seeds; here nothing is left to chance.
 *
 *     topic a (1 to 3 partitions, records {"id":n})  ->  INSERT INTO out SELECT id  ->  table `out`
 *
 * Thread: the main fiber.
 */
#ifndef MR_TESTS_SIM_STAGE_H
#define MR_TESTS_SIM_STAGE_H

#include "sim/broker.h"
#include "sim/database.h"

struct stage {
    struct world *world;
    struct database *db;
    struct broker *broker;
    struct db_table *out;
    const char *options; /* of the source, "key = 'value', ..."; NULL = none */
    int64_t next_id;
    int64_t unavailable_us; /* how long peers may be away */
    /* What happens at a named point of a batch (src/core/query.h), or NULL. It may let the process
     * die. */
    void (*at)(struct stage *stage, const char *point, uint64_t batch_id);
    /* of the last life */
    struct mr_error err;
    uint64_t bad_rows;
    uint64_t batches;
};

struct stage *stage_new(int partitions);
void stage_free(struct stage *stage);
/* `count` records with the next ids. */
void stage_produce(struct stage *stage, int partition, size_t count);
void stage_produce_as(struct stage *stage, int partition, size_t count,
                      enum broker_transaction transaction);
/* One record with this value. */
void stage_produce_text(struct stage *stage, int partition, const char *text);
void stage_cut(struct stage *stage, int partition, size_t count);
void stage_recreate(struct stage *stage);
/* A process runs until it has caught up, fails or dies; the next one finds what it left. */
enum mr_status stage_run(struct stage *stage);
/* Another process with the same program, while one runs: what its start says. */
enum mr_status stage_second(struct stage *stage, struct mr_error *err);
/* Are the ids of the table exactly from..to, each once? */
bool stage_has(const struct stage *stage, int64_t from, int64_t to);

#endif
