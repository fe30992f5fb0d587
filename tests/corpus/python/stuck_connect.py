"""The mistake: connects without a timeout to a host that does not answer, and a loop that starts one
after the other.
Reported: reconnect loops behind firewalls that drop."""

import socket

import stage

kept = []
stage.go()
for _ in range(3):
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(stage.address)
    kept.append(sock)
stage.leaked()
