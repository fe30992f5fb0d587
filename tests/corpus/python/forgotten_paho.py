"""The mistake: a client object is replaced while its network thread runs on, and reconnects.
Reported: paho.mqtt.python #453 (closing is left to the garbage collector), mosquitto #304."""

import paho.mqtt.client as mqtt
import stage

clients = {}


def reconnect(device):
    # BUG: the old client is neither disconnected nor stopped.
    client = mqtt.Client(device, clean_session=False)
    client.reconnect_delay_set(1, 1)
    client.connect(*stage.address)
    client.loop_start()
    clients[device] = client


stage.go()
for number in range(3):
    reconnect(f"dev-{number}")
stage.time.sleep(2)
stage.say("leaked")
for number in range(3):
    reconnect(f"dev-{number}")
stage.rest()
