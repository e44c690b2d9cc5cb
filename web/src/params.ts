// What the page's URL may say. All of it is optional; see README.md.
export interface Params {
  room?: string
  name?: string
  /** Joins through this region and no other, unless its edge cannot be reached. */
  region?: string
  /** Shown to the node as the caller's address; only a node in dev mode listens to it. */
  clientIp?: string
  /** From the fragment (#token=…), which browsers send to nobody: an access token for a mesh that hands out none by itself. */
  pass?: string
  autojoin: boolean
  /** One peer connection for both directions, or one for each; undefined leaves it to the client library. */
  singlePeerConnection?: boolean
  /** Height of the published video in pixels, at 15 frames/s below 540. */
  video: 360 | 540 | 720
  /** What the camera is sent in: VP9 and AV1 in three spatial layers of one stream, the others in three streams. */
  codec: Codec
}

const codecs = ['vp8', 'vp9', 'av1', 'h264'] as const
export type Codec = (typeof codecs)[number]

export function parseParams(search: string, hash = ''): Params {
  const q = new URLSearchParams(search)
  const text = (key: string, max = 64) => q.get(key)?.trim().slice(0, max) || undefined
  const pc = q.get('pc')
  const video = Number(q.get('video'))
  return {
    room: text('room'),
    name: text('name'),
    region: text('region'),
    clientIp: text('client_ip'),
    pass: new URLSearchParams(hash.replace(/^#/, '')).get('token') || undefined,
    autojoin: q.get('autojoin') === '1',
    singlePeerConnection: pc === 'single' ? true : pc === 'dual' ? false : undefined,
    video: video === 360 || video === 540 ? video : 720,
    codec: codecs.find((c) => c === q.get('codec')) ?? 'vp8',
  }
}

/** The link that brings somebody else into the room: no name, no region, no test switches. */
export function inviteLink(href: string, room: string): string {
  const url = new URL(href)
  url.hash = ''
  url.search = new URLSearchParams({ room }).toString()
  return url.toString()
}
