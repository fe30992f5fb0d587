// Carries out orders, one a line, and answers each with `ok VALUE` or `error WHY`.
'use strict';

const readline = require('node:readline');

module.exports = (verbs) => {
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
};
