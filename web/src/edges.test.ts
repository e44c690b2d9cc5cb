import { describe, expect, it } from 'vitest'
import { candidates, type Edge, EdgeError, listEdges, regionLabel, regions, requestGrant } from './edges'

const edge = (region: string, port: number, more: Partial<Edge> = {}): Edge => ({ node: `${region}-1`, region, url: `ws://127.0.0.1:${port}`, http: `http://127.0.0.1:${port}`, ...more })
const edges = [edge('us-east', 7880), edge('eu-west', 7890), edge('ap-south', 7900)]
const answer = (body: unknown, status = 200) => new Response(typeof body === 'string' ? body : JSON.stringify(body), { status })

describe('candidates', () => {
  const grant = { server_url: 'ws://127.0.0.1:7890/', participant_token: 't', edges }

  it('tries the granted edge first, then the ranked list, each once', () => {
    expect(candidates(grant).map((c) => c.region)).toEqual(['eu-west', 'us-east', 'ap-south'])
  })
  it('puts a pinned region before all', () => {
    expect(candidates(grant, 'ap-south').map((c) => c.region)).toEqual(['ap-south', 'eu-west', 'us-east'])
  })
  it('leaves draining edges for last', () => {
    const draining = { ...grant, server_url: 'ws://127.0.0.1:7900', edges: [edge('us-east', 7880, { draining: true }), ...edges.slice(1)] }
    expect(candidates(draining).map((c) => c.region)).toEqual(['ap-south', 'eu-west', 'us-east'])
  })
  it('keeps an edge that is not on the list', () => {
    expect(candidates({ ...grant, server_url: 'wss://other' })[0]).toEqual({ url: 'wss://other', region: undefined })
  })
})

describe('requestGrant', () => {
  const req = { room: 'r', name: 'Ada', identity: 'ada-1' }

  it('moves on to the next node when the first is silent', async () => {
    const urls: string[] = []
    const fetcher = async (url: string) => {
      urls.push(url)
      if (urls.length === 1) throw new TypeError('failed to fetch')
      return answer({ server_url: 'ws://x', participant_token: 't', edges })
    }
    const grant = await requestGrant(req, edges, fetcher as typeof fetch)
    expect(grant.edges).toHaveLength(3)
    expect(urls).toEqual(['v1/edge', 'http://127.0.0.1:7880/v1/edge'])
  })
  it('takes a refusal as final', async () => {
    let calls = 0
    const fetcher = async () => (calls++, answer('room name is too long', 400))
    await expect(requestGrant(req, edges, fetcher as unknown as typeof fetch)).rejects.toMatchObject({ kind: 'refused', status: 400, message: 'room name is too long' })
    expect(calls).toBe(1)
  })
  it('refuses an answer without a token', async () => {
    await expect(requestGrant(req, [], (async () => answer({ server_url: 'ws://x' })) as unknown as typeof fetch)).rejects.toBeInstanceOf(EdgeError)
  })
  it('repeats what the node says went wrong and what to do', async () => {
    const fetcher = (async () => answer({ error: 'an access token is needed', hint: 'send one' }, 401)) as unknown as typeof fetch
    await expect(requestGrant(req, [], fetcher)).rejects.toMatchObject({ kind: 'refused', message: 'An access token is needed. Send one.' })
  })
  it('tells a mesh without a free edge from silence', async () => {
    await expect(requestGrant(req, [], (async () => answer('', 503)) as unknown as typeof fetch)).rejects.toMatchObject({ kind: 'no-edge' })
  })
  it('shows a pass', async () => {
    let auth: unknown
    const fetcher = (async (_: string, init: RequestInit) => ((auth = (init.headers as Record<string, string>).Authorization), answer({ server_url: 'ws://x', participant_token: 't' }))) as unknown as typeof fetch
    await requestGrant({ ...req, pass: 'abc' }, [], fetcher)
    expect(auth).toBe('Bearer abc')
  })
  it('sends region and client address only when set', async () => {
    const seen: { url: string; body: string }[] = []
    const fetcher = (async (url: string, init: RequestInit) => {
      seen.push({ url, body: String(init.body) })
      return answer({ server_url: 'ws://x', participant_token: 't' })
    }) as unknown as typeof fetch
    await requestGrant(req, [], fetcher)
    await requestGrant({ ...req, region: 'eu-west', clientIp: '1.2.3.4' }, [], fetcher)
    expect(JSON.parse(seen[0]!.body)).toEqual({ room_name: 'r', participant_name: 'Ada', participant_identity: 'ada-1' })
    expect(seen[0]!.url).toBe('v1/edge')
    expect(seen[1]!.url).toBe('v1/edge?region=eu-west&client_ip=1.2.3.4')
  })
})

describe('lists', () => {
  it('drops entries that are no edges', async () => {
    const got = await listEdges(undefined, (async () => answer({ edges: [edges[0], { node: 'x' }, null, 7] })) as unknown as typeof fetch)
    expect(got).toEqual([edges[0]])
  })
  it('calls an HTML page unreachable, not a list', async () => {
    await expect(listEdges(undefined, (async () => answer('<html>')) as unknown as typeof fetch)).rejects.toMatchObject({ kind: 'unreachable' })
  })
  it('names each region once', () => {
    expect(regions([...edges, edge('us-east', 7910), edge('sa-east', 1, { draining: true })]).map((e) => e.region)).toEqual(['us-east', 'eu-west', 'ap-south'])
  })
  it('labels regions for people', () => {
    expect(regionLabel('ap-south')).toBe('Asia Pacific South')
    expect(regionLabel('basement')).toBe('basement')
  })
})
