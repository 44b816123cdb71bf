// Runs every check of @agentcash/discovery over a service: its document, its routes as they answer, its icon and page.
// Prints {routes, guidance, findings: [{where, code, severity, message}]}.
import * as discovery from '@agentcash/discovery'

const base = process.env.BASE
const findings = []
const note = (where, warnings) => {
  for (const { code, severity, message } of warnings) findings.push({ where, code, severity, message })
}

const document = (await discovery.getOpenAPI(base))._unsafeUnwrap()
note('document', discovery.getWarningsForOpenAPI(document))
const routes = discovery.checkL2ForOpenAPI(document)
note('routes', discovery.getWarningsForL2(routes))
const guidance = discovery.checkL4ForOpenAPI(document)
note('guidance', discovery.getWarningsForL4(guidance))
note('icon', (await discovery.getWarningsForFavicon(base))._unsafeUnwrap())

for (const { path, method, authMode } of routes.routes) {
  note(`${method} ${path}`, discovery.getWarningsForL3(discovery.getL3ForOpenAPI(document, path, method)))
  if (authMode !== 'paid') continue
  const probe = (await discovery.getProbe(base + path))._unsafeUnwrap()
  note(`probe ${path}`, discovery.getWarningsForL3(discovery.getL3ForProbe(probe, path, method, document)))
}

const page = await (await fetch(base)).text()
const meta = (name) => page.match(new RegExp(`<meta (?:name|property)="${name}" content="([^"]*)"`))?.[1]
note(
  'page',
  discovery.evaluateMetadataCompleteness({
    title: page.match(/<title>([^<]*)</)?.[1],
    description: meta('description'),
    favicon: await discovery.scrapeFavicon(base),
    ogImages: [{ url: meta('og:image') }],
  }),
)

console.log(JSON.stringify({ routes: routes.routes, guidance: guidance?.guidance, findings }))
