"""The mistake: error paths without close(). Three connections that the peer resets, and one that was
refused from the start.
Reported: paho.mqtt.c #135, a failed connect keeps its socket."""

import socket

import stage

stage.go()
kept = [socket.create_connection(stage.address) for _ in range(3)]
for sock in kept:
    try:
        sock.recv(1)
    except ConnectionResetError:
        pass  # BUG: noticed, and not closed.
refused = socket.socket()
refused.bind(("127.0.0.1", 0))  # Nobody listens there.
kept.append(socket.socket())
kept[-1].connect_ex(refused.getsockname())
stage.leaked()
