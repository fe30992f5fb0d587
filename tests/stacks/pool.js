// Keeps connections that their peer has closed: `acquire N` opens N of them.
'use strict';
const net = require('net');
const kept = [];

function acquireFromPool() {
  return new Promise((resolve) => {
    const socket = net.connect({ port: Number(process.argv[2]), host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    socket.on('connect', resolve);
    socket.resume();
    kept.push(socket);
  });
}

console.log(0);
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const count = Number(line.split(' ')[1]);
  for (let i = 0; i < count; i += 1) await acquireFromPool();
  console.log('done');
});
