// What all programs have in common: the scenario says when the mistake begins, and is told when it
// is made.
'use strict';

const readline = require('node:readline');

const port = Number(process.argv[2]);

function say(word) {
  process.stdout.write(`${word}\n`);
}

// Says that the program is ready, and waits until it is watched.
function go() {
  say('ready');
  return new Promise((done) => {
    const input = readline.createInterface({ input: process.stdin });
    input.once('line', done);
    input.once('close', () => process.exit(0));
  });
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

module.exports = { port, url: `mqtt://127.0.0.1:${port}`, say, go, sleep };
