"""The look-alike: long polling. Each answer takes 25 s, and nothing moves in between."""

import threading

import requests
import stage


def poll():
    session = requests.Session()
    while True:
        session.get(f"http://127.0.0.1:{stage.port}/slow")


stage.go()
for _ in range(5):
    threading.Thread(target=poll, daemon=True).start()
stage.rest()
