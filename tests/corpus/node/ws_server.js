// The look-alike: a WebSocket server whose clients say nothing for minutes.
'use strict';

const { WebSocketServer } = require('ws');
const { say, go } = require('./stage');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 }, async () => {
  say(`port ${server.address().port}`);
  await go();
});
