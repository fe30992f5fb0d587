// A Node.js program that is told what to do a line at a time, as app.py. Node names no
// descriptors in its public interface: sockets are known by a name, and the kernel by its number.
'use strict';

const http = require('node:http');
const net = require('node:net');
const readline = require('node:readline');

const sockets = new Map();
let last = 0;

function keep(socket) {
  last += 1;
  sockets.set(String(last), socket);
  socket.on('error', () => {});
  return last;
}

function listening(server, host) {
  return new Promise((done) => server.listen(0, host, () => done(server.address().port)));
}

const verbs = {
  // A client that reads, but is not told to end when the peer does.
  connect: (host, port) =>
    new Promise((done, failed) => {
      const socket = net.connect({ host, port: Number(port), allowHalfOpen: true });
      socket.once('error', failed);
      socket.once('connect', () => {
        socket.resume();
        done(keep(socket));
      });
    }),
  // Back-pressure that nobody ever lifts.
  pause: (name) => void sockets.get(name).pause(),
  resume: (name) => void sockets.get(name).resume(),
  close: (name) => {
    const socket = sockets.get(name);
    sockets.delete(name);
    return new Promise((done) => {
      socket.once('close', () => done());
      socket.destroy();
    });
  },
  // A server with the option that so many copy: the end of the peer ends nothing.
  'half-open-server': (host) => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      keep(socket);
      socket.resume();
    });
    return listening(server, host);
  },
  // A server that does everything right.
  'http-server': (host) => {
    const server = http.createServer((request, response) => response.end('fine'));
    server.keepAliveTimeout = 60000;
    return listening(server, host);
  },
  // One request; the agent keeps the connection for the next one.
  'http-get': (port) =>
    new Promise((done, failed) => {
      const agent = new http.Agent({ keepAlive: true });
      http
        .get({ host: '127.0.0.1', port: Number(port), agent }, (response) => {
          response.resume();
          response.once('end', () => done(response.statusCode));
        })
        .once('error', failed);
    }),
  exit: () => process.exit(0),
};

readline
  .createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const [verb, ...words] = line.split(' ');
    try {
      const value = await verbs[verb](...words);
      process.stdout.write(value === undefined ? 'ok\n' : `ok ${value}\n`);
    } catch (error) {
      process.stdout.write(`error ${verb}: ${error}\n`);
    }
  })
  .on('close', () => process.exit(0));

process.stdout.write('ready\n');
