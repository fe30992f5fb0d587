// The mistake: allowHalfOpen, copied from somewhere, and no 'end' handler that ends our side. Each
// client that goes leaves a descriptor.
// Reported: the classic of CLOSE_WAIT in Node.js servers.
'use strict';

const net = require('node:net');
const { say, go } = require('./stage');

const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.resume();
});
server.listen(0, '127.0.0.1', async () => {
  say(`port ${server.address().port}`);
  await go();
});
