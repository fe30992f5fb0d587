/* Opens sockets at two places, and in a few ways, as it is told:
 *
 *     first N | second N | deep N    connect to the port that is its argument
 *     thread                         have a second thread from now on
 *     accept N                       accept from its own listener, whose port it says at the start
 *
 * It never closes any. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in to;

/* What follows the call is there so that it is no jump, and that no function is the same as another:
 * compilers put those together. */
#define AFTER(name) __asm__ volatile("/* " name " */" ::: "memory")

static __attribute__((noinline)) void first(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) exit(1); /* at first */
    AFTER("first");
}

static __attribute__((noinline)) void second(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) exit(1); /* at second */
    AFTER("second");
}

/* More on the stack than anybody takes along. */
static __attribute__((noinline)) void deep(void) {
    volatile char much[4096];
    much[0] = 1;
    first();
    much[4095] = much[0];
    AFTER("deep");
}

static __attribute__((noinline)) void serve(int listener) {
    if (accept(listener, NULL, NULL) < 0) exit(1); /* at serve */
    AFTER("serve");
}

static void *idle(void *nothing) {
    for (;;) pause();
    return nothing;
}

int main(int argc, char **argv) {
    to.sin_family = AF_INET;
    to.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 64)) return 1;
    getsockname(listener, (struct sockaddr *)&own, &length);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    char what[16];
    int count;
    while (scanf("%15s %d", what, &count) == 2) {
        pthread_t thread;
        if (!strcmp(what, "thread")) pthread_create(&thread, NULL, idle, NULL);
        for (int i = 0; i < count; i++) {
            if (!strcmp(what, "first")) first();
            if (!strcmp(what, "second")) second();
            if (!strcmp(what, "deep")) deep();
            if (!strcmp(what, "accept")) serve(listener);
        }
        puts("done");
        fflush(stdout);
    }
    return 0;
}
