/* The mistake: a server that never closes what it has accepted, under a small limit. accept(2) fails
 * with EMFILE again and again, and the loop goes on as if nothing were wrong.
 * Reported: "Too many open files" in a log that nobody reads. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in own = {.sin_family = AF_INET};
    socklen_t size = sizeof own;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&own, sizeof own) != 0 || listen(server, 128) != 0) return 1;
    getsockname(server, (struct sockaddr *)&own, &size);
    printf("port %d\nready\n", ntohs(own.sin_port));
    fflush(stdout);
    if (getchar() == EOF) return 1;
    for (;;) {
        if (accept(server, 0, 0) >= 0) continue; /* BUG: its descriptor is forgotten. */
        usleep(50000);
    }
}
