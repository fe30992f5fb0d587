"""The mistake: a socket that is kept in some object and never read again, while data come.
Reported: paused streams, readers that were cancelled, clients dropped from the poll set."""

import socket

import stage

stage.go()
kept = [socket.create_connection(stage.address) for _ in range(2)]
stage.leaked()
