// The peer must never leave this machine: a connection to any other address is refused before it opens.
import net from 'node:net';

const LOCAL = new Set(['127.0.0.1', '::1', 'localhost']);
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function guarded(...args) {
  const first = Array.isArray(args[0]) ? args[0][0] : args[0];
  const host = typeof first === 'object' && first !== null ? (first.path ? 'localhost' : first.host) : args[1];
  if (host !== undefined && !LOCAL.has(host)) {
    throw new Error(`the benchmark's peer may not connect to ${host}`);
  }
  return connect.apply(this, args);
};
