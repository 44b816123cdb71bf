// Two generations of the stock client, unmodified, each as one fetch that pays and signs in by itself.
// The newer one is what the SDK's documentation shows today; the older one is inside the agentcash CLI.

async function today(account, fetch) {
  const { x402Client, wrapFetchWithPayment } = await import('@x402/fetch');
  const { ExactEvmScheme } = await import('@x402/evm/exact/client');
  const { createSIWxClientExtension } = await import('@x402/extensions/sign-in-with-x');
  const client = new x402Client().register('eip155:*', new ExactEvmScheme(account));
  client.registerExtension(createSIWxClientExtension({ signers: [account] }));
  return wrapFetchWithPayment(fetch, client);
}

async function older(account, fetch) {
  const { x402Client, x402HTTPClient, wrapFetchWithPayment } = await import('old-x402-fetch');
  const { ExactEvmScheme } = await import('old-x402-evm/exact/client');
  const { createSIWxClientHook } = await import('old-x402-extensions/sign-in-with-x');
  const client = new x402Client().register('eip155:*', new ExactEvmScheme(account));
  const http = new x402HTTPClient(client).onPaymentRequired(createSIWxClientHook(account));
  return wrapFetchWithPayment(fetch, http);
}

export const clients = { today, older };
