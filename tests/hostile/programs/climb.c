/* Reaches for a file outside of its directory by the C library's ways: each call must fail, and errno must say that it
 * may not, or that there is nothing of that name. Ends with the number of the first call that did otherwise. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int number;

static void must_fail(int failed) {
    number++;
    int refused = errno == EACCES || errno == EPERM || errno == ENOENT || errno == ENOTCAPABLE || errno == EROFS
        || errno == ELOOP || errno == EXDEV;
    if (!failed || !refused) {
        fprintf(stderr, "call %d: %s\n", number, failed ? strerror(errno) : "it worked");
        exit(number);
    }
    errno = 0;
}

int main(void) {
    char content[64] = "";
    struct stat found;
    FILE *file = fopen("/data/hello.txt", "r");
    if (file == NULL || fgets(content, sizeof content, file) == NULL || strcmp(content, "hello") != 0) {
        perror("what was granted");
        return 100;
    }
    fclose(file);

    must_fail(fopen("/data/../secret.txt", "r") == NULL);
    must_fail(fopen("/secret.txt", "r") == NULL);
    must_fail(fopen("/etc/passwd", "r") == NULL);
    must_fail(fopen("secret.txt", "r") == NULL);
    must_fail(fopen("/data/door-out", "r") == NULL);
    must_fail(fopen("/data/up/secret.txt", "r") == NULL);
    must_fail(fopen("/data/up/new.txt", "w") == NULL);
    must_fail(open("/data/../secret.txt", O_RDWR | O_TRUNC) < 0);
    must_fail(open("/data/door-out", O_WRONLY | O_CREAT | O_TRUNC, 0666) < 0);
    must_fail(stat("/data/../secret.txt", &found) < 0);
    must_fail(stat("/data/door-out", &found) < 0);
    must_fail(opendir("/data/..") == NULL);
    must_fail(opendir("/data/up") == NULL);
    must_fail(opendir("/") == NULL);
    must_fail(unlink("/data/../secret.txt") < 0);
    must_fail(unlink("/data/up/secret.txt") < 0);
    must_fail(rename("/data/hello.txt", "/data/../mine") < 0);
    must_fail(rename("/data/up/secret.txt", "/data/mine") < 0);
    must_fail(link("/data/up/secret.txt", "/data/mine") < 0);
    must_fail(mkdir("/data/../new", 0777) < 0);
    must_fail(mkdir("/data/up/new", 0777) < 0);

    /* By a directory that is open, and the working directory in it. */
    int data = open("/data", O_RDONLY | O_DIRECTORY);
    if (data < 0 || chdir("/data") < 0) {
        perror("what was granted");
        return 101;
    }
    must_fail(openat(data, "../secret.txt", O_RDONLY) < 0);
    must_fail(openat(data, "up/secret.txt", O_RDONLY | O_NOFOLLOW) < 0);
    must_fail(fstatat(data, "..", &found, 0) < 0);
    must_fail(fopen("../secret.txt", "r") == NULL);
    must_fail(chdir("../..") < 0 || open("secret.txt", O_RDONLY) < 0);
    puts("nothing");
    return 0;
}
