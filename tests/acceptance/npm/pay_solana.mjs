// Pays one 402 with the stock client and prints the PAYMENT-SIGNATURE that it sent, as one JSON line.
// Environment: RPC, SECRET (64 bytes in hexadecimal), REQUIRED (value of PAYMENT-REQUIRED), CLIENT=today|older.
import { createKeyPairSignerFromBytes } from '@solana/kit';

const { RPC, SECRET, REQUIRED, CLIENT = 'today' } = process.env;
const packages = {
  today: () => Promise.all([import('@x402/fetch'), import('@x402/svm/exact/client')]),
  older: () => Promise.all([import('old-x402-fetch'), import('old-x402-svm/exact/client')]),
};
const [{ x402Client, wrapFetchWithPayment }, { ExactSvmScheme }] = await packages[CLIENT]();
const signer = await createKeyPairSignerFromBytes(Buffer.from(SECRET, 'hex'));
const client = new x402Client().register('solana:*', new ExactSvmScheme(signer, { rpcUrl: RPC }));

const sent = [];
const seller = async (request) => {
  const payment = request.headers.get('payment-signature');
  if (!payment) return new Response('{}', { status: 402, headers: { 'payment-required': REQUIRED } });
  sent.push(payment);
  return new Response('{}', { status: 200 });
};
const answer = await wrapFetchWithPayment(seller, client)('https://seller.example/api', { method: 'POST', body: '{}' });
console.log(JSON.stringify({ status: answer.status, sent }));
