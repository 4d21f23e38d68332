// Joins the lines of each paragraph of a text, which were broken to fit a page. Reports each paragraph as it is done.
#include <stdio.h>

static void end(int paragraph) {
    printf("\n{\"type\":\"progress\",\"message\":\"paragraph %d\"}\n", paragraph);
    fflush(stdout);
}

int main(void) {
    int paragraphs = 0, breaks = 0, is_inside = 0;
    for (int c; (c = getchar()) != EOF;) {
        if (c == '\r') continue;
        if (c == '\n') {
            if (++breaks == 2 && is_inside) {
                end(++paragraphs);
                is_inside = 0;
            }
            continue;
        }
        if (is_inside && breaks == 1) putchar(' ');
        putchar(c);
        is_inside = 1;
        breaks = 0;
    }
    if (is_inside) end(++paragraphs);
    return 0;
}
