"""The look-alike: a consumer that is slower than its producer, on purpose. Data always wait, but they
are read."""

import socket

import stage

stage.go()
with socket.create_connection(stage.address) as sock:
    while sock.recv(500):
        stage.time.sleep(2)
