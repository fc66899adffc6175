// A Fluent Forward server by other hands: @fluent-org/logger's. Options: a JSON object as the only argument.
// Prints {"port"}, then a line an entry; bytes as {"base64"}.
"use strict";
const fs = require("fs");
const {FluentServer} = require("@fluent-org/logger");

const options = JSON.parse(process.argv[2]);
const read = (paths) => Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, fs.readFileSync(path)]));
const server = new FluentServer({
  listenOptions: {host: "127.0.0.1", port: options.port || 0},
  security: options.security,
  tlsOptions: options.tls && {...read(options.tls), requestCert: "ca" in options.tls, rejectUnauthorized: true},
});
const shown = (name, value) => value instanceof Uint8Array ? {base64: Buffer.from(value).toString("base64")} : value;
server.on("entry", (tag, time, record) => {
  const bytes = Object.fromEntries(Object.entries(record).map(([name, value]) => [name, shown(name, value)]));
  process.stdout.write(JSON.stringify({tag, time: [time.epoch, time.nano], record: bytes}) + "\n");
});
server.listen().then(() => process.stdout.write(JSON.stringify({port: server.port}) + "\n"));
process.stdin.on("end", () => process.exit(0)).resume();  // it ends with whoever started it
