// The look-alike: the incident's corrected code. Its 'error' handler belongs to a client object, but
// deletes by device id: a late error of an old client deletes the new one from the map, and the next
// reconnect does not end it. The broker does: it closes the older session of the same id, and
// without automatic reconnects nobody fights. What such code loses is devices, not descriptors: a
// device that is in no map stays dark when its connection ends, which only a registry can tell.
'use strict';

const mqtt = require('mqtt');
const { url, go, sleep } = require('./stage');

const clients = new Map(); // deviceId → MqttClient

function handleDeviceReconnect(deviceId) {
  const existing = clients.get(deviceId);
  if (existing) {
    existing.end(true);
    clients.delete(deviceId);
  }
  const client = mqtt.connect(url, {
    clientId: deviceId,
    clean: false,
    keepalive: 60,
    connectTimeout: 10000,
    reconnectPeriod: 0,
  });
  clients.set(deviceId, client);
  client.on('error', () => {
    client.end(true);
    clients.delete(deviceId);
  });
  client.on('close', () => {
    if (clients.get(deviceId) === client) clients.delete(deviceId);
  });
  return client;
}

(async () => {
  await go();
  for (;;) {
    for (let number = 0; number < 10; number += 1) {
      const old = clients.get(`dev-${number}`);
      handleDeviceReconnect(`dev-${number}`);
      // By hand, for mqtt.js 5 itself says nothing more after end(true).
      if (old) old.emit('error', new Error('read ECONNRESET'));
    }
    await sleep(35000);
  }
})();
