// The look-alike: a fleet of mqtt.js clients that does nothing wrong. Its second argument is how
// many, the third how many a second: it may start slowly, and its broker may restart.
'use strict';

const mqtt = require('mqtt');
const { url, say, go, sleep } = require('./stage');

const [devices, pace] = process.argv.slice(3).map(Number);
let online = 0;

(async () => {
  await go();
  for (let number = 0; number < devices; number += 1) {
    const client = mqtt.connect(url, { clientId: `dev-${number}`, keepalive: 5 });
    client.on('error', () => {});
    client.once('connect', () => {
      online += 1;
      if (online === devices) say('act'); // The broker restarts, if it is one that does.
    });
    await sleep(1000 / pace);
  }
})();
