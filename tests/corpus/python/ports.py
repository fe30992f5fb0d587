"""The mistake: one address of ours, one of the broker, and more connections than half of the local
ports: from there on each connect(2) searches for a port. They are opened without a pause, too.
Reported: fleets that grow past 14,000 connections a process, short connections without keep-alive."""

import resource
import socket

import stage

resource.setrlimit(resource.RLIMIT_NOFILE, (20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
stage.go()
kept = [socket.create_connection(stage.address) for _ in range(11500)]
stage.leaked()
