"""The look-alike: a restart without a cut. The old process passes its listener and its live
connections to a new one by SCM_RIGHTS and closes its own; they stay quiet for minutes."""

import os
import socket
import sys

import stage


def serve(server, connections):
    while True:
        sock, _ = server.accept()
        sock.sendall(sock.recv(100))
        connections.append(sock)


if sys.argv[-1] == "successor":
    link = socket.socket(fileno=int(sys.argv[1]))
    _, fds, _, _ = socket.recv_fds(link, 1, 20)
    server, *connections = [socket.socket(fileno=fd) for fd in fds]
    serve(server, connections)

server = socket.create_server(("127.0.0.1", 0))
stage.say(f"port {server.getsockname()[1]}")
stage.go()
connections = []
for _ in range(10):
    sock, _ = server.accept()
    sock.sendall(sock.recv(100))
    connections.append(sock)
mine, its = socket.socketpair()
its.set_inheritable(True)
if os.fork() == 0:
    # The new version: it begins with nothing but the link.
    server.close()
    for sock in connections:
        sock.close()
    os.execv(sys.executable, [sys.executable, __file__, str(its.fileno()), "successor"])
socket.send_fds(mine, [b"x"], [server.fileno()] + [sock.fileno() for sock in connections])
server.close()
for sock in connections:
    sock.close()
stage.rest()
