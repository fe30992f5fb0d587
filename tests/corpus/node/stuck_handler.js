// The mistake: a message handler that never calls back. mqtt.js stops reading, so nobody sees that
// the broker closes: no 'close' event, no reconnect, and the descriptor stays. The second argument
// is how many messages of 8 kB wait: ten fit into the buffers of Node.js and only the end is not
// read, more wait in the kernel.
// Reported: Azure IoT #655, 12 of 13 reconnect sockets in CLOSE_WAIT for ever.
'use strict';

const mqtt = require('mqtt');
const { url, say, go, sleep } = require('./stage');

function subscriber(number) {
  const client = mqtt.connect(url, { clientId: `dev-${number}`, keepalive: 600 });
  // BUG: the callback is forgotten on this path.
  client.handleMessage = () => {};
  return new Promise((done) => {
    client.once('connect', () => client.subscribe('commands', () => done(client)));
  });
}

const messages = Number(process.argv[3]);
(async () => {
  await go();
  for (let number = 0; number < 10; number += 1) await subscriber(number);
  const publisher = mqtt.connect(url, { clientId: 'publisher', reconnectPeriod: 0 });
  await new Promise((done) => publisher.once('connect', done));
  for (let sent = 0; sent < messages; sent += 1) publisher.publish('commands', Buffer.alloc(8192));
  await new Promise((done) => publisher.end(false, done));
  await sleep(1000);
  say('act'); // The broker closes.
})();
