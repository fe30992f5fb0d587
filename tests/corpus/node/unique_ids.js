// The mistake: a device that reconnects gets a new client with a new random client id, and the old
// client lives on with its own pings. No broker ends it, no error is counted anywhere.
// Reported: what the incident's code does as soon as client ids are unique.
'use strict';

const crypto = require('node:crypto');
const mqtt = require('mqtt');
const { url, say, go, sleep } = require('./stage');

const clients = new Map(); // deviceId → MqttClient

function handleDeviceReconnect(deviceId) {
  const clientId = `${deviceId}-${crypto.randomBytes(4).toString('hex')}`;
  const client = mqtt.connect(url, { clientId, keepalive: 20 });
  clients.set(deviceId, client);
  return new Promise((done) => client.once('connect', done));
}

const devices = Array.from({ length: 40 }, (_, number) => `dev-${number}`);
(async () => {
  await go();
  await Promise.all(devices.map(handleDeviceReconnect));
  await sleep(35000);
  for (const device of devices.slice(0, 15)) {
    await handleDeviceReconnect(device);
    await sleep(50);
  }
  say('leaked');
})();
