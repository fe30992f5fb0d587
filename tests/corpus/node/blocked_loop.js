// The mistake: work on the event loop that takes 15 s. All that time nothing is closed that the
// broker has closed.
// Reported: "the event loop lags" in most of the threads about CLOSE_WAIT in Node.js.
'use strict';

const mqtt = require('mqtt');
const { url, say, go } = require('./stage');

function connect(number) {
  const client = mqtt.connect(url, { clientId: `dev-${number}`, keepalive: 600, reconnectPeriod: 30000 });
  client.on('error', () => {});
  return new Promise((done) => client.once('connect', done));
}

(async () => {
  await go();
  await Promise.all(Array.from({ length: 120 }, (_, number) => connect(number)));
  say('act'); // The broker closes.
  const end = Date.now() + 15000;
  while (Date.now() < end);
})();
