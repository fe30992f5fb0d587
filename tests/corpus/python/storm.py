"""The mistake: reconnects without a pause and without a limit.
Reported: naive loops after a broker restart; more than 500 connections in 5 s."""

import socket

import stage

stage.go()
stage.say("leaked")
for _ in range(700):
    socket.create_connection(stage.address).close()
    stage.time.sleep(0.004)
stage.rest()
