/* The mistake: a socket without SOCK_CLOEXEC, and a helper that is started while it is open. Closing
 * it ends nothing: the helper has a copy that it knows nothing of.
 * Reported: guacamole #698, 40 of 40 children held the socket and no peer saw the end. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* BUG: SOCK_CLOEXEC is missing. */
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) != 0) return 1;
    if (fork() == 0) {
        execlp("sleep", "sleep", "300", (char *)0);
        _exit(1);
    }
    sleep(1);
    close(fd);
    puts("leaked");
    fflush(stdout);
    pause();
}
