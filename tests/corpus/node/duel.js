// The mistake: a client object is replaced by another with the same client id and never ended. It
// reconnects by itself every second and so takes the session from the new one, for ever.
// Reported: the incident of 12,000 devices, word for word; MQTT.js #476.
'use strict';

const mqtt = require('mqtt');
const { url, say, go, sleep } = require('./stage');

const clients = new Map(); // deviceId → MqttClient

function handleDeviceReconnect(deviceId) {
  // BUG: the old client is just overwritten, not destroyed.
  const client = mqtt.connect(url, { clientId: deviceId, clean: false });
  clients.set(deviceId, client);
  client.on('error', () => {});
  return new Promise((done) => client.once('connect', done));
}

const devices = Array.from({ length: 6 }, (_, number) => `dev-${number}`);
(async () => {
  await go();
  await Promise.all(devices.map(handleDeviceReconnect));
  await sleep(2000);
  say('leaked');
  devices.forEach(handleDeviceReconnect);
})();
