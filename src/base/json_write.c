/*
 * Writers of JSON text: whole trees and the streaming helpers; see json.h.
 *
 * Called by core (progress, manifests), the command and sinks.  Failures are the buffer's: see
 * buf.h.  Output is compact and depends on the input alone.  Thread: the buffer's owner.
 */
#include "base/json.h"

#include "base/number_text.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

static void quote_one(struct mr_buf *buf, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};

    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        break;
    case '\b':
        text[1] = 'b';
        break;
    case '\f':
        text[1] = 'f';
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    default:
        mr_buf_add(buf, text, 6);
        return;
    }
    mr_buf_add(buf, text, 2);
}

void mr_json_quote(struct mr_buf *buf, const char *text, size_t size_bytes)
{
    size_t valid = mr_utf8_valid_prefix(text, size_bytes);
    size_t from = 0;

    mr_buf_add_char(buf, '"');
    for (size_t at = 0; at < size_bytes; at++) {
        unsigned char c = (unsigned char)text[at];

        if (at == valid) {
            mr_buf_add(buf, text + from, at - from);
            mr_buf_add(buf, "\xef\xbf\xbd", 3);
            from = at + 1;
            valid = from + mr_utf8_valid_prefix(text + from, size_bytes - from);
        } else if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
            mr_buf_add(buf, text + from, at - from);
            quote_one(buf, c);
            from = at + 1;
        }
    }
    if (from < size_bytes)
        mr_buf_add(buf, text + from, size_bytes - from);
    mr_buf_add_char(buf, '"');
}

void mr_json_write(struct mr_buf *out, const struct mr_json *json)
{
    switch (json->kind) {
    case MR_JSON_NULL:
        mr_buf_add_str(out, "null");
        break;
    case MR_JSON_BOOL:
        mr_buf_add_str(out, json->boolean ? "true" : "false");
        break;
    case MR_JSON_NUMBER:
        mr_buf_add(out, json->text, json->text_bytes);
        break;
    case MR_JSON_STRING:
        mr_json_quote(out, json->text, json->text_bytes);
        break;
    case MR_JSON_ARRAY:
    case MR_JSON_OBJECT:
        mr_buf_add_char(out, json->kind == MR_JSON_ARRAY ? '[' : '{');
        for (const struct mr_json *child = json->first; child != NULL; child = child->next) {
            if (json->kind == MR_JSON_OBJECT) {
                mr_json_quote(out, child->key, strlen(child->key));
                mr_buf_add_char(out, ':');
            }
            mr_json_write(out, child);
            if (child->next != NULL)
                mr_buf_add_char(out, ',');
        }
        mr_buf_add_char(out, json->kind == MR_JSON_ARRAY ? ']' : '}');
        break;
    }
}

/* ---------------------------------------------------------------- streaming */

static void begin_value(struct mr_json_out *out, const char *key)
{
    if (out->need_comma)
        mr_buf_add_char(out->buf, ',');
    out->need_comma = true;
    if (key != NULL) {
        mr_json_quote(out->buf, key, strlen(key));
        mr_buf_add_char(out->buf, ':');
    }
}

void mr_json_begin_object(struct mr_json_out *out, const char *key)
{
    begin_value(out, key);
    mr_buf_add_char(out->buf, '{');
    out->need_comma = false;
}

void mr_json_end_object(struct mr_json_out *out)
{
    mr_buf_add_char(out->buf, '}');
    out->need_comma = true;
}

void mr_json_begin_array(struct mr_json_out *out, const char *key)
{
    begin_value(out, key);
    mr_buf_add_char(out->buf, '[');
    out->need_comma = false;
}

void mr_json_end_array(struct mr_json_out *out)
{
    mr_buf_add_char(out->buf, ']');
    out->need_comma = true;
}

void mr_json_add_raw(struct mr_json_out *out, const char *key, const char *json)
{
    begin_value(out, key);
    mr_buf_add_str(out->buf, json == NULL ? "null" : json);
}

void mr_json_add_string_n(struct mr_json_out *out, const char *key, const char *text,
                          size_t size_bytes)
{
    if (text == NULL) {
        mr_json_add_raw(out, key, NULL);
        return;
    }
    begin_value(out, key);
    mr_json_quote(out->buf, text, size_bytes);
}

void mr_json_add_string(struct mr_json_out *out, const char *key, const char *text)
{
    mr_json_add_string_n(out, key, text, text == NULL ? 0 : strlen(text));
}

void mr_json_add_int(struct mr_json_out *out, const char *key, int64_t value)
{
    char text[MR_NUMBER_TEXT_BYTES];

    mr_int_print(value, text);
    mr_json_add_raw(out, key, text);
}

/* JSON has no names for what is no number. */
void mr_json_add_double(struct mr_json_out *out, const char *key, double value, int decimals)
{
    char text[MR_NUMBER_TEXT_BYTES];

    if (!isfinite(value)) {
        mr_json_add_raw(out, key, NULL);
        return;
    }
    if (decimals < 0)
        mr_double_print(value, text);
    else
        mr_double_print_fixed(value, (unsigned)decimals, text);
    mr_json_add_raw(out, key, text);
}

void mr_json_add_bool(struct mr_json_out *out, const char *key, bool value)
{
    mr_json_add_raw(out, key, value ? "true" : "false");
}
