// What the components draw, taken from the library's objects at one moment.
import { ConnectionQuality, type Participant, Track, type VideoTrack } from 'livekit-client'
import { regionOf } from './inspect'

export type Quality = 'excellent' | 'good' | 'poor' | 'lost' | 'unknown'

export interface Tile {
  key: string
  identity: string
  name: string
  local: boolean
  screen: boolean
  track?: VideoTrack
  micOn: boolean
  speaking: boolean
  quality: Quality
  region?: string
}

export interface ChatEntry {
  id: number
  from: string
  local: boolean
  text: string
  at: Date
}

/** What the page knows about its own person before and while the edge does. */
export interface Self {
  identity: string
  name: string
  region?: string
}

/** The camera tile of a participant, and one more while a screen is shared. */
export function tilesOf(p: Participant, me: Self): Tile[] {
  const video = (source: Track.Source) => {
    const pub = p.getTrackPublication(source)
    return pub?.track && !pub.isMuted ? (pub.track as VideoTrack) : undefined
  }
  const identity = p.isLocal ? me.identity : p.identity
  const base = {
    identity,
    name: (p.isLocal ? me.name : p.name) || identity,
    local: p.isLocal,
    micOn: p.isMicrophoneEnabled,
    speaking: p.isSpeaking,
    quality: quality(p.connectionQuality),
    region: regionOf(p) ?? (p.isLocal ? me.region : undefined),
  }
  const out: Tile[] = [{ ...base, key: `${identity}/camera`, screen: false, track: video(Track.Source.Camera) }]
  const screen = video(Track.Source.ScreenShare)
  if (screen) out.push({ ...base, key: `${identity}/screen`, screen: true, speaking: false, track: screen })
  return out
}

function quality(q: ConnectionQuality): Quality {
  switch (q) {
    case ConnectionQuality.Excellent: return 'excellent'
    case ConnectionQuality.Good: return 'good'
    case ConnectionQuality.Poor: return 'poor'
    case ConnectionQuality.Lost: return 'lost'
    default: return 'unknown'
  }
}
