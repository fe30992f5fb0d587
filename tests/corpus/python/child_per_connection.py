"""The look-alike: a child for each connection, as sshd and inetd do. The parent closes its copy right
after the fork; the child is quiet for minutes, and ends with its client."""

import os
import signal
import socket

import stage

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", 0))
stage.say(f"port {server.getsockname()[1]}")
stage.go()
while True:
    sock, _ = server.accept()
    if os.fork() == 0:
        server.close()
        while data := sock.recv(100):
            sock.sendall(data)
        os._exit(0)
    sock.close()
