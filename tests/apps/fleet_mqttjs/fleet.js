// What most Node.js programs would take: one mqtt.js client for each device, with its defaults.
//
// It keeps the contract of tests/src/fleet.rs, without TLS and without source addresses: mqtt.js
// makes its own sockets and lets nobody bind them. Only the first connects are paced; afterwards
// mqtt.js reconnects by itself, as it does for everybody.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');
const { parseArgs } = require('node:util');
const mqtt = require('mqtt');

const { values: args } = parseArgs({
  options: {
    broker: { type: 'string' },
    devices: { type: 'string' },
    'max-in-flight': { type: 'string' },
    'keep-alive': { type: 'string', default: '60' },
    prefix: { type: 'string', default: 'dev-' },
    subscribe: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const devices = Number(args.devices);
const inFlight = Number(args['max-in-flight'] ?? devices);
const qos = args.subscribe === undefined ? undefined : Number(args.subscribe);

const counts = { online: 0, connects: 0, disconnects: 0, failures: 0, messages: 0 };
let begin;
let cpuAtBegin;
let wasComplete = false;
let lost = 0;
let lostSince;
let next = 0;
let first;

const seconds = (since) => Number(process.hrtime.bigint() - since) / 1e9;

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function rssBytes() {
  const line = /^VmRSS:\s+(\d+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
  return Number(line[1]) * 1024;
}

function say(type, fields) {
  const words = Object.entries(fields).map(([name, value]) => ` ${name}=${value}`);
  console.log(args.json ? JSON.stringify({ type, ...fields }) : type + words.join(''));
}

function up() {
  counts.online += 1;
  counts.connects += 1;
  if (counts.online < devices) return;
  if (!wasComplete) {
    wasComplete = true;
    say('online', { devices, seconds: seconds(begin), cpu_seconds: cpuSeconds() - cpuAtBegin });
  } else if (lost > 0) {
    say('recovered', { devices: lost, seconds: seconds(lostSince) });
  }
  lost = 0;
}

function down() {
  counts.online -= 1;
  counts.disconnects += 1;
  if (lost === 0) lostSince = process.hrtime.bigint();
  lost += 1;
}

function dial(number) {
  const clientId = args.prefix + number;
  const client = mqtt.connect(args.broker, { clientId, keepalive: Number(args['keep-alive']) });
  let isUp = false;
  let isFirst = true;
  const online = () => {
    isUp = true;
    up();
    if (isFirst) dialNext();
    isFirst = false;
  };
  client.on('connect', () => {
    if (qos === undefined) {
      online();
    } else {
      client.subscribe(`${clientId}/in`, { qos }, (error) => (error ? client.stream.destroy() : online()));
    }
  });
  client.on('close', () => {
    if (isUp) down();
    else counts.failures += 1;
    isUp = false;
  });
  client.on('error', () => {});
  if (qos !== undefined) client.on('message', () => (counts.messages += 1));
  return client;
}

function dialNext() {
  if (next >= devices) return;
  const client = dial(next);
  first ??= client;
  next += 1;
}

function publish(count, size, quality) {
  const payload = Buffer.alloc(size, 'x');
  const since = process.hrtime.bigint();
  let left = count;
  const done = () => {
    left -= 1;
    if (left === 0) say('published', { count, seconds: seconds(since) });
  };
  for (let sent = 0; sent < count; sent += 1) {
    first.publish(`${args.prefix}0/up`, payload, { qos: quality }, done);
  }
}

function obey(line) {
  const [verb, ...words] = line.trim().split(/\s+/);
  const numbers = words.map(Number);
  if (verb === 'status') {
    say('status', { ...counts, rss_bytes: rssBytes(), cpu_seconds: cpuSeconds() });
  } else if (verb === 'quit') {
    process.exit(0);
  } else if (verb === 'publish' && numbers.length === 3 && numbers.every(Number.isInteger) && first) {
    publish(...numbers);
  } else {
    say('error', { message: `\`${line}\` is not understood` });
  }
}

const input = readline.createInterface({ input: process.stdin });
input.on('line', obey);
input.on('close', () => process.exit(0));
say('start', { rss_bytes: rssBytes() });
begin = process.hrtime.bigint();
cpuAtBegin = cpuSeconds();
for (let started = 0; started < Math.min(inFlight, devices); started += 1) dialNext();
