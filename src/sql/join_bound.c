/*
 * Joins of streams: comparisons of one column of each side, solved for one of them.
 *
 *     a.t <= b.t + INTERVAL '5 seconds'          a.t <= b.t + 5 s
 *     b.t - a.t > INTERVAL '1 minute'            a.t <  b.t - 60 s
 *     a.t BETWEEN b.t - x AND b.t + y            two of them
 *     epoch(a.t) > epoch(b.t) + 10               a.t >  b.t + 10 s, decided by DuckDB
 *
 * A side of a comparison is a sum of terms: one column of each stream at most, whole, and
 * constants, which DuckDB computes. Intervals with months have no length. What is solved tells when
 * rows can leave the state (join_pair.c) and, when it is exact, is decided without DuckDB.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

enum { CONSTANTS_MAX = 16 };
#define ADD_MAX (INT64_C(1) << 61)

enum kind { KIND_NONE, KIND_TIME, KIND_INT, KIND_EPOCH, KIND_EPOCH_MS, KIND_EPOCH_US };

struct sum {
    const char *columns[2]; /* of left, right; NULL: none */
    int signs[2];
    enum kind kind;
    const struct mr_json *constants[CONSTANTS_MAX];
    int constant_signs[CONSTANTS_MAX];
    uint32_t constant_count;
};

static bool is_int(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT32;
}

static enum kind kind_of(enum mr_type_id id, enum kind around)
{
    if (id == MR_TYPE_TIMESTAMP)
        return around == KIND_NONE ? KIND_TIME : around;
    return is_int(id) && around == KIND_NONE ? KIND_INT : KIND_NONE;
}

static bool add_column(const struct mr_sql_joins *joins, const struct mr_sql_side *const sides[2],
                       const struct mr_json *node, int sign, enum kind around, struct sum *sum)
{
    uint32_t leaf, column;
    size_t rest;
    enum kind kind;
    unsigned side;

    if (!mr_sql__joined_column(joins, node, &leaf, &column, &rest) || rest > 0)
        return false;
    side = (sides[0]->leaves >> leaf & 1) != 0 ? 0 : 1;
    kind = kind_of(mr_schema_field(joins->leaves[leaf].schema, column)->type.id, around);
    if ((sides[side]->leaves >> leaf & 1) == 0 || sum->columns[side] != NULL || kind == KIND_NONE ||
        (sum->kind != KIND_NONE && sum->kind != kind))
        return false;
    sum->kind = kind;
    sum->columns[side] = joins->leaves[leaf].names[column];
    sum->signs[side] = sign;
    return true;
}

static enum kind epoch_of(const char *function)
{
    if (mr_sql__same_name(function, "epoch"))
        return KIND_EPOCH;
    if (mr_sql__same_name(function, "epoch_ms"))
        return KIND_EPOCH_MS;
    return mr_sql__same_name(function, "epoch_us") ? KIND_EPOCH_US : KIND_NONE;
}

/* Adds an expression to the sum; false: it is not one. */
static bool add_term(const struct mr_sql_joins *joins, const struct mr_sql_side *const sides[2],
                     const struct mr_json *node, int sign, enum kind around, struct sum *sum,
                     unsigned depth)
{
    const struct mr_json *children = mr_json_get(node, "children");
    const char *function = mr_sql__function(node);
    bool opaque = false;

    if (depth > MR_SQL_DEPTH_MAX)
        return false;
    if (mr_sql__leaves_of(joins, node, &opaque) == 0) {
        if (opaque || around != KIND_NONE || sum->constant_count == CONSTANTS_MAX)
            return false;
        sum->constants[sum->constant_count] = node;
        sum->constant_signs[sum->constant_count++] = sign;
        return true;
    }
    if (mr_sql__class_is(node, "COLUMN_REF"))
        return add_column(joins, sides, node, sign, around, sum);
    if (function == NULL || children == NULL || around != KIND_NONE)
        return false;
    if (children->count == 1 && epoch_of(function) != KIND_NONE)
        return add_term(joins, sides, children->first, sign, epoch_of(function), sum, depth + 1);
    if (children->count != 2 || (strcmp(function, "+") != 0 && strcmp(function, "-") != 0))
        return false;
    return add_term(joins, sides, children->first, sign, around, sum, depth + 1) &&
           add_term(joins, sides, children->last, function[0] == '-' ? -sign : sign, around, sum,
                    depth + 1);
}

struct number {
    int64_t value;
    bool known;
};

static enum mr_status take_number(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct number *number = arg;

    MR_UNUSED(err);
    number->known =
        mr_batch_row_count(batch) == 1 && !mr_column_is_null(mr_batch_column(batch, 0), 0);
    if (number->known)
        number->value = mr_column_int(mr_batch_column(batch, 0), 0);
    return MR_OK;
}

/* The value of a constant as a BIGINT; false: DuckDB does not see it as one. */
static bool evaluate(struct mr_sql_planner *p, const char *format, const char *text,
                     int64_t *ret_value)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_error tried = {0};
    struct number number = {0, false};

    for (; *format != '\0'; format++) {
        if (*format == '@')
            mr_buf_add_str(&sql, text);
        else
            mr_buf_add_char(&sql, *format);
    }
    if (sql.failed || mr_duck_exec(p->duck, sql.data, take_number, &number, &tried) != MR_OK)
        number.known = false;
    mr_buf_release(&sql);
    *ret_value = number.value;
    return number.known && number.value < ADD_MAX && number.value > -ADD_MAX;
}

/* A constant in microseconds or in units of an integer column. */
static enum mr_status constant_value(struct mr_sql_planner *p, const struct mr_json *node,
                                     enum kind kind, int64_t *ret_value, bool *ret_known)
{
    static const char *const forms[] = {
        [KIND_INT] = "SELECT CAST((@) AS BIGINT) WHERE CAST((@) AS BIGINT) = (@)",
        [KIND_EPOCH] = "SELECT CAST(round((@) * 1000000) AS BIGINT)",
        [KIND_EPOCH_MS] = "SELECT CAST((@) * 1000 AS BIGINT)",
        [KIND_EPOCH_US] = "SELECT CAST((@) AS BIGINT)",
    };
    const char *text;
    int64_t other;

    MR_TRY(mr_sql__expression_text(p, node, &text));
    if (kind != KIND_TIME) {
        *ret_known = evaluate(p, forms[kind], text, ret_value);
        return MR_OK;
    }
    /* Months have as many days as they happen to have: those have two lengths. */
    *ret_known =
        evaluate(p,
                 "SELECT epoch_us(TIMESTAMP '2001-01-31' + (@)) - epoch_us(TIMESTAMP '2001-01-31')",
                 text, ret_value) &&
        evaluate(p,
                 "SELECT epoch_us(TIMESTAMP '2001-03-30' + (@)) - epoch_us(TIMESTAMP '2001-03-30')",
                 text, &other) &&
        other == *ret_value;
    return MR_OK;
}

static enum mr_compare flipped(enum mr_compare compare)
{
    switch (compare) {
    case MR_LT:
        return MR_GT;
    case MR_LE:
        return MR_GE;
    case MR_GT:
        return MR_LT;
    case MR_GE:
        return MR_LE;
    default:
        return compare;
    }
}

/* one <compare> two; *ret_done false: it is no bound. */
static enum mr_status solve(struct mr_sql_joins *joins, const struct mr_sql_side *const sides[2],
                            const struct mr_json *one, const struct mr_json *two,
                            enum mr_compare compare, struct mr_sql_bound *ret_bound, bool *ret_done)
{
    struct sum sum = {.kind = KIND_NONE};
    int64_t constant = 0;

    *ret_done = false;
    if (!add_term(joins, sides, one, 1, KIND_NONE, &sum, 0) ||
        !add_term(joins, sides, two, -1, KIND_NONE, &sum, 0) || sum.columns[0] == NULL ||
        sum.columns[1] == NULL || sum.signs[0] == sum.signs[1])
        return MR_OK;
    for (uint32_t i = 0; i < sum.constant_count; i++) {
        int64_t value = 0;
        bool known = false;

        MR_TRY(constant_value(joins->p, sum.constants[i], sum.kind, &value, &known));
        constant += sum.constant_signs[i] * value;
        if (!known || constant > ADD_MAX || constant < -ADD_MAX)
            return MR_OK;
    }
    /* left - right + c <compare> 0, or right - left + c <compare> 0 */
    ret_bound->left = sum.columns[0];
    ret_bound->right = sum.columns[1];
    ret_bound->compare = sum.signs[0] > 0 ? compare : flipped(compare);
    ret_bound->add = sum.signs[0] > 0 ? -constant : constant;
    ret_bound->is_time = sum.kind != KIND_INT;
    ret_bound->exact = sum.kind == KIND_TIME || sum.kind == KIND_INT;
    if (!ret_bound->exact) { /* rounded: allow for it */
        int64_t slack = sum.kind == KIND_EPOCH_MS ? 1000 : 1;

        if (ret_bound->compare == MR_LT || ret_bound->compare == MR_LE)
            ret_bound->add += slack;
        else
            ret_bound->add -= slack;
    }
    *ret_done = true;
    return MR_OK;
}

enum mr_status mr_sql__join_bounds(struct mr_sql_joins *joins, const struct mr_sql_side *left,
                                   const struct mr_sql_side *right, const struct mr_json *expr,
                                   struct mr_sql_bound bounds[2], uint32_t *ret_count)
{
    static const struct {
        const char *type;
        enum mr_compare compare;
    } comparisons[] = {{"COMPARE_EQUAL", MR_EQ},       {"COMPARE_NOTEQUAL", MR_NE},
                       {"COMPARE_LESSTHAN", MR_LT},    {"COMPARE_LESSTHANOREQUALTO", MR_LE},
                       {"COMPARE_GREATERTHAN", MR_GT}, {"COMPARE_GREATERTHANOREQUALTO", MR_GE}};
    const struct mr_sql_side *const sides[2] = {left, right};
    const struct mr_json *input = mr_json_get(expr, "input");
    bool done = false;

    *ret_count = 0;
    if (mr_sql__type_is(expr, "COMPARE_BETWEEN")) {
        MR_TRY(solve(joins, sides, input, mr_json_get(expr, "lower"), MR_GE, &bounds[0], &done));
        if (!done)
            return MR_OK;
        MR_TRY(solve(joins, sides, input, mr_json_get(expr, "upper"), MR_LE, &bounds[1], &done));
        *ret_count = done ? 2 : 0;
        return MR_OK;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(comparisons); i++) {
        if (!mr_sql__type_is(expr, comparisons[i].type))
            continue;
        MR_TRY(solve(joins, sides, mr_json_get(expr, "left"), mr_json_get(expr, "right"),
                     comparisons[i].compare, &bounds[0], &done));
        *ret_count = done ? 1 : 0;
    }
    return MR_OK;
}
