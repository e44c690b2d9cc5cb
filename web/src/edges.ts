// Finding an edge: the ranked list, the token, and the order in which edges are tried.

export interface Edge {
  node: string
  region: string
  url: string
  http: string
  distance_km?: number
  expected_rtt_ms?: number
  load?: number
  draining?: boolean
}

export interface Grant {
  server_url: string
  participant_token: string
  edges: Edge[]
}

export class EdgeError extends Error {
  constructor(
    readonly kind: 'unreachable' | 'refused' | 'no-edge',
    message: string,
    readonly status?: number,
  ) {
    super(message)
    this.name = 'EdgeError'
  }
}

type Fetch = typeof fetch

const timeoutMs = 5000

/** Ranked edges for this caller, nearest first. Throws EdgeError. */
export async function listEdges(clientIp?: string, fetcher: Fetch = fetch): Promise<Edge[]> {
  return edgesOf(await call(fetcher, `v1/edges${query({ client_ip: clientIp })}`, {}))
}

export interface GrantRequest {
  room: string
  name: string
  identity: string
  region?: string
  clientIp?: string
  /** An access token of a mesh that hands out none by itself. */
  pass?: string
}

/**
 * Asks for a token and an edge: first the node that served the page, then the others we know of.
 * A refusal (4xx) is final, silence is not. Throws EdgeError.
 */
export async function requestGrant(req: GrantRequest, known: Edge[] = [], fetcher: Fetch = fetch): Promise<Grant> {
  const where = query({ region: req.region, client_ip: req.clientIp })
  const init: RequestInit = {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(req.pass ? { Authorization: `Bearer ${req.pass}` } : {}) },
    body: JSON.stringify({
      room_name: req.room,
      participant_name: req.name,
      participant_identity: req.identity,
    }),
  }
  const bases = ['', ...known.map((e) => e.http.replace(/\/*$/, '/')).filter((h) => /^https?:/.test(h))]
  let last: unknown
  for (const base of bases) {
    try {
      const body = await call(fetcher, `${base}v1/edge${where}`, init)
      const { server_url, participant_token } = body as Partial<Grant>
      if (typeof server_url !== 'string' || typeof participant_token !== 'string') {
        throw new EdgeError('no-edge', 'the answer names no edge')
      }
      return { server_url, participant_token, edges: edgesOf(body) }
    } catch (err) {
      last = err
      if (err instanceof EdgeError && err.kind === 'refused') throw err
    }
  }
  throw last
}

export interface Candidate {
  url: string
  region?: string
}

/** Edges in the order to try them: the pinned region, the edge that was granted, the rest as ranked; draining ones last. */
export function candidates(grant: Grant, region?: string): Candidate[] {
  const out: Candidate[] = []
  const add = (url: string, of?: string) => {
    const key = url.replace(/\/+$/, '')
    if (!out.some((c) => c.url === key)) out.push({ url: key, region: of })
  }
  const regionOf = (url: string) => grant.edges.find((e) => e.url.replace(/\/+$/, '') === url.replace(/\/+$/, ''))?.region
  const up = grant.edges.filter((e) => !e.draining)
  if (region) for (const e of up) if (e.region === region) add(e.url, e.region)
  add(grant.server_url, regionOf(grant.server_url))
  for (const e of up) add(e.url, e.region)
  for (const e of grant.edges) add(e.url, e.region)
  return out
}

/** One entry per region, in ranked order. */
export function regions(edges: Edge[]): Edge[] {
  const seen = new Set<string>()
  return edges.filter((e) => !e.draining && !seen.has(e.region) && seen.add(e.region))
}

const places: Record<string, string> = { us: 'US', eu: 'Europe', ap: 'Asia Pacific', sa: 'South America', af: 'Africa', me: 'Middle East', ca: 'Canada', au: 'Australia', uk: 'UK' }

/** "eu-west" → "Europe West"; names that follow no convention are shown as they are. */
export function regionLabel(region: string): string {
  const [head = '', ...rest] = region.split('-')
  const place = places[head]
  if (!place) return region
  return [place, ...rest.map((w) => w.charAt(0).toUpperCase() + w.slice(1))].join(' ')
}

async function call(fetcher: Fetch, url: string, init: RequestInit): Promise<unknown> {
  let res: Response
  try {
    res = await fetcher(url, { ...init, cache: 'no-store', signal: AbortSignal.timeout(timeoutMs) })
  } catch (err) {
    throw new EdgeError('unreachable', err instanceof Error ? err.message : String(err))
  }
  if (!res.ok) {
    const kind = res.status === 503 ? 'no-edge' : res.status < 500 ? 'refused' : 'unreachable'
    throw new EdgeError(kind, (await reason(res)).slice(0, 300) || res.statusText, res.status)
  }
  try {
    return await res.json()
  } catch {
    throw new EdgeError('unreachable', 'the answer is not JSON')
  }
}

/** "what went wrong. What to do" of an error body; other text as it is. */
async function reason(res: Response): Promise<string> {
  const text = await res.text().catch(() => '')
  try {
    const { error, hint } = JSON.parse(text) as { error?: unknown; hint?: unknown }
    return [error, hint].filter((s): s is string => typeof s === 'string' && s !== '').map(sentence).join(' ')
  } catch {
    return text
  }
}

export function sentence(text: string): string {
  const t = text.trim()
  if (!t) return ''
  return t.charAt(0).toUpperCase() + t.slice(1) + (/[.!?]$/.test(t) ? '' : '.')
}

function query(params: Record<string, string | undefined>): string {
  const q = new URLSearchParams(Object.entries(params).filter((p): p is [string, string] => Boolean(p[1]))).toString()
  return q && `?${q}`
}

function edgesOf(body: unknown): Edge[] {
  const list = (body as { edges?: unknown } | null)?.edges
  if (!Array.isArray(list)) return []
  return list.filter((e): e is Edge => typeof e?.url === 'string' && typeof e?.region === 'string').map((e) => ({ ...e, http: typeof e.http === 'string' ? e.http : '' }))
}
