// Buys by OpenAI's client what WHAT says and reads it to the end; prints one JSON line.
// Environment: BASE, PRIVATE_KEY, WHAT=generate|edit|video|refused|failed.
import { ExactEvmScheme } from '@x402/evm/exact/client';
import { wrapFetchWithPayment, x402Client } from '@x402/fetch';
import OpenAI, { toFile } from 'openai';
import { privateKeyToAccount } from 'viem/accounts';

const { BASE, PRIVATE_KEY, WHAT } = process.env;
const sent = { payments: 0, requests: 0 };
const counting = (request) => {
  sent.requests += 1;
  sent.payments += request.headers.has('payment-signature') ? 1 : 0;
  return fetch(request);
};
const paying = wrapFetchWithPayment(
  counting,
  new x402Client().register('eip155:*', new ExactEvmScheme(privateKeyToAccount(PRIVATE_KEY))),
);
const openai = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: 'none', fetch: paying });

async function video() {
  const ordered = await openai.videos.create({ model: 'veo-3.1-fast', prompt: 'a paper boat', seconds: '4', size: '1280x720' });
  const reader = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: ordered.pollToken });
  let made = ordered;
  const deadline = Date.now() + 90_000;
  while (!['completed', 'failed'].includes(made.status) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    made = await reader.videos.retrieve(ordered.id);
  }
  const content = await reader.videos.downloadContent(ordered.id);
  const bytes = (await content.arrayBuffer()).byteLength;
  return { ordered, made, bytes, contentType: content.headers.get('content-type') };
}

const wishes = {
  generate: () => openai.images.generate({ model: 'gpt-image-2', prompt: 'a fox', quality: 'low', size: '1024x1024', n: 1 }),
  edit: async () => {
    const picture = await openai.images.generate({ model: 'flux-2-pro', prompt: 'a cat', response_format: 'b64_json', output_format: 'png' });
    const image = await toFile(Buffer.from(picture.data[0].b64_json, 'base64'), 'cat.png', { type: 'image/png' });
    return openai.images.edit({ model: 'nano-banana', prompt: 'the same at dawn', image: [image], size: '1024x1024', user: 'me' });
  },
  video,
  refused: () => openai.images.generate({ model: 'gpt-imaeg-2', prompt: 'a fox' }),
  failed: () => openai.images.generate({ model: 'flux-2-pro', prompt: '[sandbox:refuse] a fox' }),
};

let outcome;
try {
  outcome = await wishes[WHAT]();
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const { status, code, type, param, message, requestID } = error;
  outcome = { status, code, type, param, message, requestID, kind: error.constructor.name };
}
console.log(JSON.stringify({ ...sent, outcome }));
