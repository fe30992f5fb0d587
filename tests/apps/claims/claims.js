// Tells the daemon which of this process's sockets is which device's.
'use strict';

const http = require('node:http');

const address = (ip, port) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);

// The claim of a socket; undefined for one that is not connected.
function fromSocket(socket, device, stage = 'online') {
  if (!socket?.localPort || !socket.remotePort) return undefined;
  return {
    local: address(socket.localAddress, socket.localPort),
    remote: address(socket.remoteAddress, socket.remotePort),
    device,
    stage,
  };
}

// The claim of an mqtt.js client over TCP or TLS.
const fromMqtt = (client, device) =>
  fromSocket(client.stream, device, client.connected ? 'online' : 'connecting');

// The registry of process `pid`, this one unless given.
function claims(socketPath, { pid, lease } = {}) {
  const ask = (method, path) => {
    const request = http.request({ socketPath, method, path, agent: false });
    const answer = new Promise((done, failed) => {
      request.on('error', failed);
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part) => (text += part));
        response.on('error', failed);
        response.on('end', () => {
          if (response.statusCode === 200) done(JSON.parse(text));
          else failed(new Error(text));
        });
      });
    });
    return { request, answer };
  };
  return {
    // The whole registry; call it every 10 seconds, and whenever much has changed.
    put(list) {
      const { request, answer } = ask('PUT', '/api/v1/claims');
      request.end(JSON.stringify({ pid, lease_s: lease, claims: list.filter(Boolean) }));
      return answer;
    },
    // The registry as it changes. `over` says how it ended; begin it anew with a snapshot then.
    stream(list) {
      const { request, answer } = ask('POST', `/api/v1/claims/stream${pid ? `?pid=${pid}` : ''}`);
      const say = (line) => void request.write(`${line ? JSON.stringify(line) : ''}\n`);
      say({ snapshot: list.filter(Boolean) });
      return {
        claim: (claim) => say({ claim }),
        retract: ({ local, remote }) => say({ retract: { local, remote } }),
        // All still stands: say it every 10 seconds.
        confirm: () => say(),
        end: () => void request.end(),
        over: answer,
      };
    },
  };
}

module.exports = { claims, fromMqtt, fromSocket };
