// Files by the calls of C's own library.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *path) {
    printf("%s: %s\n", path, strerror(errno));
    return 1;
}

static int read_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) return failed(path);
    char content[4096];
    size_t length;
    while ((length = fread(content, 1, sizeof content, file)) > 0) fwrite(content, 1, length, stdout);
    int broken = ferror(file) ? failed(path) : 0;
    fclose(file);
    return broken;
}

static int write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (file == NULL) return failed(path);
    int broken = fputs(text, file) < 0;
    broken |= fclose(file) != 0;
    return broken ? failed(path) : 0;
}

int main(void) {
    char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *what = strtok(line, " ");
        char *name = strtok(NULL, " ");
        char *text = strtok(NULL, "");
        if (what == NULL || name == NULL) continue;
        int broken = 0;
        if (strcmp(what, "read") == 0) {
            broken = read_file(name);
        } else if (strcmp(what, "write") == 0) {
            broken = write_file(name, text == NULL ? "" : text);
        } else {
            char *value = getenv(name);
            printf("%s\n", value == NULL ? "unset" : value);
        }
        if (broken) return 1;
    }
    return 0;
}
