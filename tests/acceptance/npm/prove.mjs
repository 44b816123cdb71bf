// Makes a proof in the form of the older library: its own validator wants the host name without the port.
// Environment: URL (of the job), PRIVATE_KEY. Prints one JSON line with the header and the validator's verdict.
import { createSIWxPayload, encodeSIWxHeader, validateSIWxMessage } from 'old-x402-extensions/sign-in-with-x';
import { privateKeyToAccount } from 'viem/accounts';

const { URL: url, PRIVATE_KEY } = process.env;
const challenge = await (await fetch(url)).json();
const { info, supportedChains } = challenge.extensions['sign-in-with-x'];
const chain = supportedChains.find(({ type }) => type === 'eip191');
const payload = await createSIWxPayload(
  { ...info, ...chain, domain: new URL(url).hostname },
  privateKeyToAccount(PRIVATE_KEY),
);
const verdict = await validateSIWxMessage(payload, url);
console.log(JSON.stringify({ header: encodeSIWxHeader(payload), domain: payload.domain, verdict }));
