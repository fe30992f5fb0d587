"""The mistake: a client that promised to say something every 4 s, whose loop is not run any more.
Reported: paho without loop_start() or with a blocked callback; its broker is gone without a word."""

import paho.mqtt.client as mqtt
import stage

stage.go()
client = mqtt.Client("meter-3", clean_session=False)
client.connect(*stage.address, keepalive=4)
# BUG: loop_start() is missing; only the handshake is done by hand.
for _ in range(20):
    client.loop(0.05)
stage.leaked()
