// The look-alike: a cluster. The primary accepts, passes each connection to a worker by SCM_RIGHTS
// and closes its own descriptor; the connections are quiet for minutes.
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');
const { say, go } = require('./stage');

if (cluster.isPrimary) {
  let listening = 0;
  for (let number = 0; number < 2; number += 1) {
    cluster.fork().on('listening', ({ port }) => {
      listening += 1;
      if (listening < 2) return;
      say(`port ${port}`);
      go();
    });
  }
} else {
  net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
}
