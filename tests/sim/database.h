/*
 * A database outside the simulated process: tables, transactions, and a table of the batches that
 * each query has written. Connector 'simdb' of SQL pipelines, and the target of DStream programs.
 *
 * A transaction may be refused, be rolled back, or be committed without its client hearing of it
 * (faults.md I5, I6): the client then has to ask whether (query, batch) is there. Whoever writes a
 * batch again must write the same rows: that is compared (INV3).
 *
 * Thread: fibers.
 */
#ifndef MR_TESTS_SIM_DATABASE_H
#define MR_TESTS_SIM_DATABASE_H

#include "sim/rows.h"

enum { DB_TABLES_MAX = 12 };

struct db_mark {
    char query[40];
    int64_t batch;
    uint64_t hash; /* of the rows in their order */
};

struct db_table {
    char name[40];
    bool used;
    bool replaces; /* each batch is the whole result */
    bool by_time;  /* batches are known by their times, not by numbers that follow each other */
    struct rows rows;
    struct db_mark *marks;
    size_t mark_count;
    size_t mark_room;
};

struct database {
    struct world *world;
    struct db_table tables[DB_TABLES_MAX];
    uint64_t batches; /* transactions that were committed */
    uint64_t refused; /* transactions that failed, or seemed to */
};

/* There is one at a time; connector 'simdb' finds it. */
struct database *database_new(struct world *world);
void database_free(struct database *db);
struct db_table *database_table(struct database *db, const char *name);

/* One transaction: the rows and the mark, or nothing of it. MR_UNAVAILABLE: unknown, or nothing. */
enum mr_status database_write(struct database *db, struct db_table *table, const char *query,
                              int64_t batch, const struct rows *rows, struct mr_error *err);
/* Highest batch of that query, or -1. */
int64_t database_last(const struct db_table *table, const char *query);

void database_register(void); /* the connector; once in a process */

#endif
