"""The look-alike: HTTP/1.0, a connection for each request, 20 a second."""

import http.client

import stage

stage.go()
while True:
    connection = http.client.HTTPConnection(*stage.address)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    stage.time.sleep(0.05)
