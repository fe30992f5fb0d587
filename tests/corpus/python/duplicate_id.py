"""The mistake: a second client for a device, the first one forgotten; and a broker that allows two
sessions with one client id, so both live on.
Reported: brokers in clusters where each node knows its own sessions only."""

import paho.mqtt.client as mqtt
import stage

clients = []


def connect(device):
    client = mqtt.Client(device, clean_session=False)
    client.connect(*stage.address)
    client.loop_start()
    clients.append(client)


stage.go()
connect("pump-7")
connect("pump-8")
stage.time.sleep(2)
connect("pump-7")
stage.leaked()
