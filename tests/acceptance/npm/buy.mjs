// Buys one picture, reads its job until it is complete and downloads it; prints one JSON line.
// Environment: BASE, PRIVATE_KEY, CLIENT=today|older, ROUTE, BODY (JSON), POLL_MS.
import { privateKeyToAccount } from 'viem/accounts';
import { clients } from './clients.mjs';

const { BASE, PRIVATE_KEY, CLIENT = 'today', BODY, POLL_MS = '200' } = process.env;
const { ROUTE = '/api/generate/flux-2-pro/generate' } = process.env;
const body = BODY ?? JSON.stringify({ prompt: 'a lighthouse at dusk', resolution: '0.5 MP' });
const deadline = Date.now() + 60_000;

const sent = { payments: 0, proofs: 0 };
const counting = (request) => {
  sent.payments += request.headers.has('payment-signature') ? 1 : 0;
  sent.proofs += request.headers.has('sign-in-with-x') ? 1 : 0;
  return fetch(request);
};
const decode = (header) => header && JSON.parse(Buffer.from(header, 'base64'));
const print = (outcome) => console.log(JSON.stringify({ ...outcome, ...sent }));

const paying = await clients[CLIENT](privateKeyToAccount(PRIVATE_KEY), counting);

async function finished(url) {
  while (Date.now() < deadline) {
    const response = await paying(url);
    const job = await response.json();
    if (response.status !== 200 || ['complete', 'failed'].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, Number(POLL_MS)));
  }
  throw new Error('the job did not finish within a minute');
}

const bought = await paying(BASE + ROUTE, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
const answer = await bought.json();
const outcome = { status: bought.status, answer, receipt: decode(bought.headers.get('payment-response')) };
if (bought.status !== 200) {
  print(outcome);
} else {
  const job = await finished(answer.pollUrl);
  const picture = await fetch(job.result.imageUrl);
  const bytes = (await picture.arrayBuffer()).byteLength;
  print({ ...outcome, jobId: answer.jobId, job, bytes, contentType: picture.headers.get('content-type') });
}
