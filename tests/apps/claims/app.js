// A backend with a registry that it hands to the daemon, and that is told to make mistakes. It
// speaks as much MQTT as it takes to have a session: CONNECT, and whatever comes is dropped.
'use strict';

const net = require('node:net');
const { claims, fromSocket } = require('./claims');
const orders = require('./orders');

// How often it says what it has.
const PERIOD_MS = 500;

const registry = new Map();
const sockets = new Map();
let daemon;
let timer;
let counts = { matched: 0, unmatched: 0 };

function connectPacket(clientId) {
  const id = Buffer.from(clientId);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(id.length);
  // MQTT 3.1.1 section 3.1: level 4, a clean session, no keep-alive.
  const rest = Buffer.concat([Buffer.from([0, 4, ...Buffer.from('MQTT'), 4, 2, 0, 0]), length, id]);
  return Buffer.concat([Buffer.from([0x10, rest.length]), rest]);
}

function session(port, clientId, device) {
  return new Promise((done, failed) => {
    const socket = net.connect({ host: '127.0.0.1', port: Number(port) });
    socket.on('error', failed);
    socket.on('connect', () => socket.write(connectPacket(clientId)));
    socket.once('data', () => {
      const claim = fromSocket(socket, device);
      registry.set(clientId, claim);
      sockets.set(clientId, socket);
      socket.resume();
      done(claim.local);
    });
  });
}

async function put() {
  counts = await daemon.put([...registry.values()]);
}

orders({
  fleet: async (count, port) => {
    for (let n = 0; n < Number(count); n += 1) await session(port, `dev-${n}`, `dev-${n}`);
  },
  // Another session for a device, beside the one it has.
  again: (port, device) => session(port, `${device}-again`, device),
  // It says what it has, again and again.
  speak: async (socketPath, lease) => {
    daemon = claims(socketPath, { lease: Number(lease) });
    await put();
    timer = setInterval(() => put().catch(() => {}), PERIOD_MS);
    return `${counts.matched} ${counts.unmatched}`;
  },
  silence: () => clearInterval(timer),
  // It forgets a connection that it has.
  forget: (id) => {
    const claim = registry.get(id);
    registry.delete(id);
    return claim.local;
  },
  // It loses a connection and does not notice.
  lose: (id) =>
    new Promise((done) => {
      sockets.get(id).once('close', () => done(registry.get(id).local));
      sockets.get(id).destroy();
    }),
  // It ends a connection as one should.
  end: (id) =>
    new Promise((done) => {
      registry.delete(id);
      sockets.get(id).once('close', () => done());
      sockets.get(id).destroy();
    }),
  exit: () => process.exit(0),
});
