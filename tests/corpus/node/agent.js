// The look-alike: an http.Agent with keep-alive, ten connections that are idle for longer than any
// budget, then used again.
'use strict';

const http = require('node:http');
const { port, go, sleep } = require('./stage');

const agent = new http.Agent({ keepAlive: true });

function get() {
  return new Promise((done, failed) => {
    const request = http.get({ host: '127.0.0.1', port, agent }, (response) => {
      response.resume();
      response.once('end', done);
    });
    request.once('error', failed);
  });
}

(async () => {
  await go();
  for (;;) {
    await Promise.all(Array.from({ length: 10 }, get));
    await sleep(70000);
  }
})();
