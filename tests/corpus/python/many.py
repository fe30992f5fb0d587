"""The mistake: a service with a thousand connections and the soft limit that every shell gives, 1,024.
Reported: EMFILE at the first storm; limits.conf does not reach services of systemd."""

import resource
import socket

import stage

resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
stage.go()
kept = []
for _ in range(1005):
    kept.append(socket.create_connection(stage.address))
    stage.time.sleep(0.012)
stage.leaked()
