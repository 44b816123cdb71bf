// A loopback facilitator in one of two tempers:
//   checks    the x402 SDK's own facilitator code over a pretend chain in memory: signatures, terms and nonces hold
//   believes  says yes to everything at once; the most generous one that a peer can have
import './loopback.mjs';
import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { ExactEvmScheme } from '@x402/evm/exact/facilitator';

const NETWORK = 'eip155:84532';
const TOKEN = '0x036cbd53842c5426634e7929541ec2318f3dcf7e';
const SUPPORTED = {
  kinds: ['exact', 'upto'].map((scheme) => ({ x402Version: 2, scheme, network: NETWORK })),
  extensions: [],
  signers: {},
};
const transaction = () => `0x${randomBytes(32).toString('hex')}`;

const used = new Set();
const unused = ({ functionName, args }) => {
  if (functionName !== 'transferWithAuthorization') throw new Error(`the pretend chain has no ${functionName}`);
  const nonce = `${args[0]}:${args[5]}`.toLowerCase();
  if (used.has(nonce)) throw new Error('FiatTokenV2: authorization is used or canceled');
  return nonce;
};
const chain = {
  getAddresses: () => ['0x2222222222222222222222222222222222222222'],
  getCode: async ({ address }) => (address.toLowerCase() === TOKEN ? '0x01' : '0x'),
  readContract: async (call) => void unused(call),
  writeContract: async (call) => {
    used.add(unused(call));
    return transaction();
  },
  waitForTransactionReceipt: async () => ({ status: 'success' }),
};

const scheme = new ExactEvmScheme(chain);
const payerOf = (asked) => asked.paymentPayload.payload.authorization.from;
const TEMPERS = {
  checks: {
    '/verify': (asked) => scheme.verify(asked.paymentPayload, asked.paymentRequirements),
    '/settle': (asked) => scheme.settle(asked.paymentPayload, asked.paymentRequirements),
  },
  believes: {
    '/verify': (asked) => ({ isValid: true, payer: payerOf(asked) }),
    '/settle': (asked) => ({ success: true, payer: payerOf(asked), transaction: transaction(), network: NETWORK }),
  },
};
const routes = { ...TEMPERS[process.env.TEMPER ?? 'checks'], '/supported': () => SUPPORTED };

const read = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
};

const server = createServer(async (request, response) => {
  const asked = await read(request);
  const answer = await routes[request.url]?.(asked);
  response.writeHead(answer ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? {}));
});
server.keepAliveTimeout = 600_000;
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
