// Preloaded before agentcash, whose own code stays as it is. Its backend, which it asks for balances before it pays, is
// answered here; its node of Tempo is the one at TEMPO_RPC; what else would leave this machine fails at once.
const fetch = globalThis.fetch
const { TEMPO_RPC } = process.env
const CHAINS = { base: 8453, tempo: 4217 }

const balance = ({ network }) => {
  const chainId = CHAINS[network] ?? 0
  const caip2 = chainId ? `eip155:${chainId}` : 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp'
  return Response.json({ balance: chainId ? 4 : 0, network: caip2, paymentNetwork: network, chainId })
}

globalThis.fetch = async (input, init) => {
  const request = new Request(input, init)
  const { hostname, pathname } = new URL(request.url)
  if (hostname === '127.0.0.1') return fetch(request)
  if (hostname === 'agentcash.dev' && pathname === '/api/balance') return balance(await request.json())
  if (hostname === 'rpc.mainnet.tempo.xyz') {
    return fetch(TEMPO_RPC, { method: 'POST', headers: { 'content-type': 'application/json' }, body: await request.text() })
  }
  throw new TypeError(`${hostname} is not on this machine`)
}
