// Buys one picture by MPP and reads its job by a zero-amount proof until it is finished; prints one JSON line.
// Environment: BASE, PRIVATE_KEY, CLIENT=today|middle|older, BODY (JSON), READ=1, RPC.
import { createClient, http } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { tempoModerato } from 'viem/chains';

const { BASE, PRIVATE_KEY, CLIENT = 'today', BODY, READ, RPC = `${BASE}/rpc/tempo` } = process.env;
const PATH = '/api/generate/flux-2-pro/generate';
const PACKAGES = { today: 'mppx/client', middle: 'middle-mppx/client', older: 'old-mppx/client' };
const { Mppx, tempo } = await import(PACKAGES[CLIENT]);

const account = privateKeyToAccount(PRIVATE_KEY);
const chain = createClient({ account, chain: tempoModerato, transport: http(RPC) });
let payments = 0;
const counting = (input, init) => {
  const authorization = new Headers(init?.headers ?? input.headers).get('authorization') ?? '';
  payments += authorization.startsWith('Payment ') ? 1 : 0;
  return fetch(input, init);
};
const paying = Mppx.create({
  fetch: counting,
  methods: [tempo({ account, getClient: () => chain })],
  polyfill: false,
}).fetch;

const decode = (header) => header && JSON.parse(Buffer.from(header, 'base64url'));
const bought = await paying(BASE + PATH, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: BODY ?? JSON.stringify({ prompt: 'a lighthouse at dusk', resolution: '0.5 MP' }),
});
const answer = await bought.json();
const outcome = { status: bought.status, answer, receipt: decode(bought.headers.get('payment-receipt')), paid: payments };

async function finished(url) {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; ) {
    const response = await paying(url);
    const job = await response.json();
    if (response.status !== 200 || ['complete', 'failed'].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error('the job did not finish within a minute');
}

const job = bought.status === 200 && READ ? await finished(answer.pollUrl) : undefined;
console.log(JSON.stringify({ ...outcome, job, payments }));
