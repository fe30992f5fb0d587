"""The mistake: a dispatcher that passes connections to a worker by SCM_RIGHTS and keeps its own
descriptor. The worker closes, the peer sees no end, closes by itself: the dispatcher still holds it.
Reported: weave scope #2253, sockets moved by SCM_RIGHTS."""

import os
import socket

import stage

mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
if os.fork() == 0:
    mine.close()
    while True:
        _, (fd, *_), _, _ = socket.recv_fds(its, 1, 1)
        with socket.socket(fileno=fd) as sock:
            sock.sendall(b"done")
its.close()
kept = []
stage.go()
for _ in range(2):
    sock = socket.create_connection(stage.address)
    socket.send_fds(mine, [b"x"], [sock.fileno()])
    kept.append(sock)  # BUG: close() is forgotten.
stage.leaked()
