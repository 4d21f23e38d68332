/* CSV to JSON: an agent on the mentat ABI.
 *
 * One pass over the input, which stays where it was read. The output grows by doubling. A field is
 * written to the output as it is read, so memory is a small multiple of the input whatever the
 * table's shape. On an error there is no output, one log line, and exit code 1. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST(name) __attribute__((import_module("mentat"), import_name(#name)))

HOST(read_input) int32_t read_input(void *pointer, size_t capacity);
HOST(write_output) int32_t write_output(const void *pointer, size_t length);
HOST(log) void write_log(int32_t level, const void *pointer, size_t length);

enum { LOG_ERROR = 0, EXIT_REFUSED = 1 };

/* Logs why the input is refused, and gives `process` its exit code. */
__attribute__((format(printf, 1, 2))) static int32_t refuse(const char *format, ...) {
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (length < 0) length = 0;
    if ((size_t)length >= sizeof message) length = sizeof message - 1;
    write_log(LOG_ERROR, message, (size_t)length);
    return EXIT_REFUSED;
}

/* ---- Growing output ------------------------------------------------------------------------- */

struct buffer {
    char *bytes;
    size_t length, capacity;
    bool exhausted; /* memory ran out; what was written since is lost */
};

static void put(struct buffer *buffer, const char *bytes, size_t length) {
    if (buffer->exhausted) return;
    if (length > buffer->capacity - buffer->length) {
        size_t capacity = buffer->capacity ? buffer->capacity : 4096;
        while (capacity - buffer->length < length) {
            if (capacity > SIZE_MAX / 2) {
                buffer->exhausted = true;
                return;
            }
            capacity *= 2;
        }
        char *grown = realloc(buffer->bytes, capacity);
        if (!grown) {
            buffer->exhausted = true;
            return;
        }
        buffer->bytes = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void put_char(struct buffer *buffer, char character) { put(buffer, &character, 1); }

/* One character of a JSON string. */
static void put_escaped(struct buffer *buffer, unsigned char character) {
    char escape[8];
    switch (character) {
    case '"': put(buffer, "\\\"", 2); return;
    case '\\': put(buffer, "\\\\", 2); return;
    case '\n': put(buffer, "\\n", 2); return;
    case '\r': put(buffer, "\\r", 2); return;
    case '\t': put(buffer, "\\t", 2); return;
    default:
        if (character >= 0x20) {
            put_char(buffer, (char)character);
        } else {
            snprintf(escape, sizeof escape, "\\u%04x", character);
            put(buffer, escape, 6);
        }
    }
}

/* ---- Reading CSV ---------------------------------------------------------------------------- */

struct reader {
    const unsigned char *next, *end;
    size_t line; /* counted from 1 */
};

/* How a field ended. */
enum after { AFTER_COMMA, AFTER_ROW, UNCLOSED_QUOTE, STRAY_QUOTE };

/* Whether a line break is next; takes it when there is one. A carriage return alone is none. */
static bool take_break(struct reader *reader) {
    const unsigned char *next = reader->next;
    if (next < reader->end && *next == '\r' && reader->end - next > 1 && next[1] == '\n') next++;
    if (next >= reader->end || *next != '\n') return false;
    reader->next = next + 1;
    reader->line++;
    return true;
}

/* What separates this field from what comes next; takes it. */
static enum after take_separator(struct reader *reader) {
    if (reader->next < reader->end && *reader->next == ',') {
        reader->next++;
        return AFTER_COMMA;
    }
    if (reader->next == reader->end || take_break(reader)) return AFTER_ROW;
    return STRAY_QUOTE;
}

/* Reads one field, as a JSON string without its quotes. */
static enum after read_field(struct reader *reader, struct buffer *out) {
    if (reader->next < reader->end && *reader->next == '"') {
        reader->next++;
        while (reader->next < reader->end) {
            unsigned char character = *reader->next++;
            if (character == '"') {
                if (reader->next == reader->end || *reader->next != '"') return take_separator(reader);
                reader->next++;
            } else if (character == '\n') {
                reader->line++;
            }
            put_escaped(out, character);
        }
        return UNCLOSED_QUOTE;
    }
    while (reader->next < reader->end) {
        if (*reader->next == ',') {
            reader->next++;
            return AFTER_COMMA;
        }
        if (take_break(reader)) return AFTER_ROW;
        if (*reader->next == '"') return STRAY_QUOTE;
        put_escaped(out, *reader->next++);
    }
    return AFTER_ROW;
}

/* Skips lines with nothing on them; says whether a row follows. */
static bool at_row(struct reader *reader) {
    while (take_break(reader)) {
    }
    return reader->next < reader->end;
}

static int32_t refuse_quote(enum after after, size_t line) {
    if (after == UNCLOSED_QUOTE)
        return refuse("line %zu: a quote that is opened here is never closed", line);
    return refuse("line %zu: a quote stands inside a field; a field with quotes is quoted as a whole, "
                  "and its own quotes are doubled",
                  line);
}

/* ---- The header ----------------------------------------------------------------------------- */

struct header {
    struct buffer text; /* the names, escaped, one after the other */
    size_t *ends;       /* where each name ends in `text` */
    size_t count, capacity;
};

static const char *name_of(const struct header *header, size_t column, size_t *length) {
    size_t start = column ? header->ends[column - 1] : 0;
    *length = header->ends[column] - start;
    return header->text.bytes + start;
}

static bool add_name(struct header *header) {
    if (header->count == header->capacity) {
        size_t capacity = header->capacity ? header->capacity * 2 : 32;
        size_t *grown = realloc(header->ends, capacity * sizeof *grown);
        if (!grown) return false;
        header->ends = grown;
        header->capacity = capacity;
    }
    header->ends[header->count++] = header->text.length;
    return !header->text.exhausted;
}

/* A column of the header, for sorting them by name. */
struct column {
    const char *name;
    size_t length, number;
};

static int compare_columns(const void *left, const void *right) {
    const struct column *a = left, *b = right;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = common ? memcmp(a->name, b->name, common) : 0;
    if (order) return order;
    return (a->length > b->length) - (a->length < b->length);
}

/* A name that two columns share would make an object lose one of them. */
static int32_t check_names(const struct header *header) {
    struct column *columns = calloc(header->count, sizeof *columns);
    if (!columns) return refuse("the header of %zu columns does not fit into memory", header->count);
    for (size_t column = 0; column < header->count; column++) {
        columns[column].name = name_of(header, column, &columns[column].length);
        columns[column].number = column + 1;
    }
    qsort(columns, header->count, sizeof *columns, compare_columns);
    int32_t verdict = 0;
    for (size_t column = 1; column < header->count && !verdict; column++) {
        const struct column *a = &columns[column - 1], *b = &columns[column];
        if (compare_columns(a, b) == 0)
            verdict = refuse("line 1: columns %zu and %zu have the same name `%.*s`; rename one",
                             a->number < b->number ? a->number : b->number,
                             a->number < b->number ? b->number : a->number,
                             (int)(a->length < 80 ? a->length : 80), a->name);
    }
    free(columns);
    return verdict;
}

static int32_t read_header(struct reader *reader, struct header *header) {
    enum after after;
    do {
        size_t line = reader->line;
        after = read_field(reader, &header->text);
        if (after == UNCLOSED_QUOTE || after == STRAY_QUOTE)
            return refuse_quote(after, after == UNCLOSED_QUOTE ? line : reader->line);
        if (!add_name(header)) return refuse("the header does not fit into memory");
    } while (after == AFTER_COMMA);
    return check_names(header);
}

/* ---- Rows ----------------------------------------------------------------------------------- */

static int32_t read_row(struct reader *reader, const struct header *header, struct buffer *out) {
    size_t row_line = reader->line, column = 0;
    enum after after;
    put_char(out, '{');
    do {
        size_t line = reader->line;
        if (column < header->count) {
            size_t length;
            const char *name = name_of(header, column, &length);
            if (column) put_char(out, ',');
            put_char(out, '"');
            put(out, name, length);
            put(out, "\":\"", 3);
        }
        after = read_field(reader, out);
        if (after == UNCLOSED_QUOTE || after == STRAY_QUOTE)
            return refuse_quote(after, after == UNCLOSED_QUOTE ? line : reader->line);
        put_char(out, '"');
        column++;
    } while (after == AFTER_COMMA);
    if (column != header->count)
        return refuse("line %zu: the row has %zu fields, but the header has %zu", row_line, column,
                      header->count);
    put_char(out, '}');
    return 0;
}

static int32_t convert(const unsigned char *input, size_t length, struct buffer *out) {
    struct reader reader = {.next = input, .end = input + length, .line = 1};
    struct header header = {0};
    if (length >= 3 && memcmp(input, "\xEF\xBB\xBF", 3) == 0) reader.next += 3; /* byte order mark */
    if (reader.next == reader.end)
        return refuse("the input is empty; it needs at least a header line with the names of the columns");

    int32_t verdict = read_header(&reader, &header);
    put_char(out, '[');
    for (bool first = true; !verdict && at_row(&reader); first = false) {
        put(out, ",\n", first ? 0 : 2);
        verdict = read_row(&reader, &header, out);
        if (!verdict && out->exhausted)
            verdict = refuse("line %zu: the table does not fit into memory", reader.line);
    }
    put_char(out, ']');
    return verdict;
}

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

/* Where the first byte is that is no part of a character (RFC 3629), or `length`. */
static size_t invalid_utf8(const unsigned char *bytes, size_t length) {
    size_t at = 0;
    while (at < length) {
        unsigned char first = bytes[at];
        size_t more = first < 0x80 ? 0 : first < 0xC2 ? SIZE_MAX : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if (first > 0xF4 || more > length - at - 1) return at;
        for (size_t i = 1; i <= more; i++)
            if ((bytes[at + i] & 0xC0) != 0x80) return at;
        if (more >= 2) {
            unsigned char second = bytes[at + 1];
            bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
            bool surrogate = first == 0xED && second > 0x9F, beyond = first == 0xF4 && second > 0x8F;
            if (overlong || surrogate || beyond) return at;
        }
        at += more + 1;
    }
    return length;
}

__attribute__((export_name("process"))) int32_t process(void) {
    size_t length = (size_t)read_input(NULL, 0);
    unsigned char *input = malloc(length + 1); /* one more, so that an empty input has an address */
    if (!input) return refuse("the input of %zu bytes does not fit into memory", length);
    read_input(input, length);
    size_t invalid = invalid_utf8(input, length);
    if (invalid < length)
        return refuse("the input is not UTF-8: byte %zu begins no character; convert it first", invalid);

    struct buffer out = {0};
    int32_t verdict = convert(input, length, &out);
    if (verdict) return verdict;
    if (out.exhausted) return refuse("the output does not fit into memory");
    write_output(out.bytes, out.length);
    return 0; /* nothing is freed: the sandbox goes away as a whole */
}
