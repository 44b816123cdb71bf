// The peer: one paid route and one job route on @agentcash/router, x402 and MPP both on, served by hono on node.
import './loopback.mjs';
import { randomUUID } from 'node:crypto';
import { serve } from '@hono/node-server';
import { facilitator } from '@coinbase/x402';
import { z } from 'zod';
import { memoryStore } from './memory.mjs';

const port = Number(process.env.PORT);
const origin = `http://127.0.0.1:${port}`;

// The router has no setting for its EVM facilitator; it takes this object, so this object is pointed at loopback.
// Without createAuthHeaders it is also spared the three JWTs that it signs for every call to the real one.
facilitator.url = process.env.FACILITATOR_URL;
delete facilitator.createAuthHeaders;
process.env.CDP_API_KEY_ID = process.env.CDP_API_KEY_SECRET = 'unused';

const { createRouter, TEMPO_USDC_ADDRESS } = await import('@agentcash/router');

const router = createRouter({
  baseUrl: origin,
  payeeAddress: '0x1111111111111111111111111111111111111112',
  network: 'eip155:84532',
  protocols: ['x402', 'mpp'],
  mpp: { secretKey: 'benchmark-secret-benchmark-secret', currency: TEMPO_USDC_ADDRESS, rpcUrl: 'http://127.0.0.1:9' },
  kvStore: memoryStore(),
  discovery: { title: 'Peer', version: '1.0.0', description: 'Sells pictures.', guidance: '' },
});

const PRICES = { 512: '0.045', '1K': '0.067', '2K': '0.101', '4K': '0.151' };
const RATIOS = ['1:1', '1:4', '1:8', '2:3', '3:2', '3:4', '4:1', '4:3', '4:5', '5:4', '8:1', '9:16', '16:9', '21:9'];
const Input = z.strictObject({
  prompt: z.string().min(1).max(4000),
  aspectRatio: z.enum(RATIOS).optional(),
  imageSize: z.enum(Object.keys(PRICES)).default('1K'),
  thinkingLevel: z.enum(['minimal', 'high']).optional(),
});
const Accepted = z.object({
  success: z.boolean(),
  jobId: z.string(),
  type: z.string(),
  status: z.string(),
  pollUrl: z.string(),
  pollAfter: z.number(),
});
const jobs = new Map();

router
  .route({ path: 'generate/nano-banana/generate', method: 'POST' })
  .paid((body) => PRICES[body.imageSize], { maxPrice: '0.151', minPrice: '0.045' })
  .body(Input)
  .output(Accepted)
  .inputExample({ prompt: 'a lighthouse at dusk', imageSize: '1K' })
  .outputExample({
    success: true,
    jobId: 'job_0123456789',
    type: 'nano-banana-generate',
    status: 'pending',
    pollUrl: `${origin}/api/jobs/job_0123456789`,
    pollAfter: 5,
  })
  .description('Nano Banana - generate')
  .handler(async ({ body, wallet, payment }) => {
    const jobId = `job_${randomUUID().replaceAll('-', '')}`;
    jobs.set(jobId, { wallet, input: body, payment, createdAt: new Date().toISOString() });
    return {
      success: true,
      jobId,
      type: 'nano-banana-generate',
      status: 'pending',
      pollUrl: `${origin}/api/jobs/${jobId}`,
      pollAfter: 5,
    };
  });

router
  .route({ path: 'jobs/{id}', method: 'GET' })
  .siwx()
  .handler(async ({ params, wallet }) => {
    const job = jobs.get(params.id);
    if (!job) throw Object.assign(new Error('No such job'), { status: 404 });
    if (job.wallet !== wallet) throw Object.assign(new Error('Not your job'), { status: 403 });
    return {
      id: params.id,
      status: 'complete',
      type: 'nano-banana-generate',
      result: { imageUrl: `${origin}/assets/${params.id}.png` },
      input: job.input,
      payment: job.payment,
      createdAt: job.createdAt,
    };
  });

serve({ fetch: router.fetch, port, hostname: '127.0.0.1' }, () => console.log(JSON.stringify({ port })));
