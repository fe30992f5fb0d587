"""The look-alike: a pre-forking server. Four workers accept from one listener, and keep quiet
connections."""

import os
import socket

import stage

server = socket.create_server(("127.0.0.1", 0))
for _ in range(4):
    if os.fork() == 0:
        kept = []
        while True:
            sock, _ = server.accept()
            sock.sendall(sock.recv(100))
            kept.append(sock)
stage.say(f"port {server.getsockname()[1]}")
stage.go()
stage.rest()
