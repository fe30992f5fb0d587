"""The mistake: requests with stream=True whose body is never read and whose response is never
closed; the server closes.
Reported: the classic of CLOSE_WAIT in Python clients."""

import requests
import stage

kept = []
stage.go()
for _ in range(8):
    session = requests.Session()
    kept.append(session.get(f"http://127.0.0.1:{stage.port}/", stream=True))
stage.leaked()
