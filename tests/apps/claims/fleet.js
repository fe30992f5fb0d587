// A backend of mqtt.js clients, one for each device, that hands its map to the daemon and is told to
// replace clients without ending them.
'use strict';

const mqtt = require('mqtt');
const { claims, fromMqtt } = require('./claims');
const orders = require('./orders');

// How often it says what it has.
const PERIOD_MS = 500;

const clients = new Map(); // device → its client
const doubles = []; // [device, client]: claimed beside the one in the map
const replaced = []; // as a closure keeps them: nobody can end them any more
let daemon;
let timer;
let number = 0;

function connect(port, device) {
  number += 1;
  // A client id of its own for each: the broker ends none of them.
  const clientId = `${device}-${number}`;
  const client = mqtt.connect({ host: '127.0.0.1', port: Number(port), clientId });
  return new Promise((done, failed) => {
    client.once('connect', () => done(client));
    client.once('error', failed);
  });
}

const list = () => [...clients, ...doubles].map(([device, client]) => fromMqtt(client, device));
const local = (client) => fromMqtt(client, '').local;

orders({
  fleet: async (count, port) => {
    for (let n = 0; n < Number(count); n += 1) {
      clients.set(`dev-${n}`, await connect(port, `dev-${n}`));
    }
  },
  speak: async (socketPath, lease) => {
    daemon = claims(socketPath, { lease: Number(lease) });
    const { matched, unmatched } = await daemon.put(list());
    timer = setInterval(() => daemon.put(list()).catch(() => {}), PERIOD_MS);
    return `${matched} ${unmatched}`;
  },
  silence: () => clearInterval(timer),
  // The mistake: the map has a new client, and the old one lives on.
  replace: async (port, device) => {
    const old = clients.get(device);
    replaced.push(old);
    clients.set(device, await connect(port, device));
    return local(old);
  },
  // Two clients for a device, both known.
  double: async (port, device) => {
    const newer = await connect(port, device);
    doubles.push([device, newer]);
    return local(newer);
  },
  // It ends a client as one should.
  end: async (device) => {
    const client = clients.get(device);
    clients.delete(device);
    await client.endAsync();
  },
  // The broker's side of a client is cut off, and mqtt.js makes another connection.
  cut: (device) =>
    new Promise((done) => {
      const client = clients.get(device);
      client.once('connect', () => done(local(client)));
      client.stream.destroy();
    }),
  exit: () => process.exit(0),
});
