// What the browser suite and a curious person at the console see of a call: window.__meridian.
import type { RemoteParticipant, RemoteTrack, Room } from 'livekit-client'
import { Track } from 'livekit-client'

/** All times are performance.now() in milliseconds. */
export interface Marks {
  connectStarted?: number
  connected?: number
  /** First frame on screen since connectStarted, by identity. */
  firstRemoteFrame: Record<string, number>
}

export interface VideoStats {
  muted: boolean
  framesDecoded: number
  bytesReceived: number
  freezeCount: number
  /** Seconds. */
  totalFreezesDuration: number
  frameWidth: number
  frameHeight: number
  packetsLost: number
  nackCount: number
  pliCount: number
  keyFramesDecoded: number
  /** Longest time between two frames on screen since the last call of stats(), in milliseconds. */
  maxGapMs: number
}

export interface AudioStats {
  muted: boolean
  audioLevel: number
  totalAudioEnergy: number
  totalSamplesReceived: number
  concealedSamples: number
}

export interface RemoteStats {
  identity: string
  name: string
  region?: string
  video?: VideoStats
  audio?: AudioStats
}

export interface Stats {
  at: number
  state: string
  url?: string
  region?: string
  /** Round trip to the edge in milliseconds, as ICE measures it. */
  rttMs?: number
  marks: Marks
  remotes: RemoteStats[]
}

export interface Hooks {
  room: Room
  stats(): Promise<Stats>
}

declare global {
  interface Window {
    /** Read-only view of the running call; undefined in the lobby. */
    __meridian?: Hooks
  }
}

interface Gap {
  /** The last frame we were told of: when the compositor got it, and its number. */
  last?: { at: number; frame: number }
  longest: number
}

export class Inspector {
  marks: Marks = { firstRemoteFrame: {} }
  private gaps = new Map<string, Gap>()

  constructor(
    private readonly room: Room,
    private readonly where: () => { url?: string; region?: string },
  ) {}

  connectStarted(): void {
    this.marks = { connectStarted: performance.now(), firstRemoteFrame: {} }
    this.gaps.clear()
  }

  connected(): void {
    this.marks.connected = performance.now()
  }

  /** Follows the frames of one video element until the returned function is called. */
  watch(identity: string, video: HTMLVideoElement): () => void {
    if (!('requestVideoFrameCallback' in video)) return () => {}
    const gap: Gap = { longest: 0 }
    this.gaps.set(identity, gap)
    let handle = video.requestVideoFrameCallback(function frame(this: void, now, meta) {
      seen(now, meta)
      handle = video.requestVideoFrameCallback(frame)
    })
    const seen = (now: number, meta: VideoFrameCallbackMetadata) => {
      this.marks.firstRemoteFrame[identity] ??= now
      // A busy page is told of frames late or not at all: the compositor's clock and count are what
      // was on screen. Frames we were not told of share the time evenly.
      const next = { at: meta.presentationTime, frame: meta.presentedFrames }
      if (gap.last && next.frame > gap.last.frame) gap.longest = Math.max(gap.longest, (next.at - gap.last.at) / (next.frame - gap.last.frame))
      gap.last = next
    }
    return () => {
      video.cancelVideoFrameCallback(handle)
      if (this.gaps.get(identity) === gap) this.gaps.delete(identity)
    }
  }

  async stats(): Promise<Stats> {
    const remotes = await Promise.all([...this.room.remoteParticipants.values()].map((p) => this.remote(p)))
    return { at: performance.now(), state: this.room.state, ...this.where(), rttMs: await this.rtt(), marks: structuredClone(this.marks), remotes }
  }

  /** Round trip to the edge in milliseconds; undefined without media. */
  async rtt(): Promise<number | undefined> {
    const tracks: { getRTCStatsReport(): Promise<RTCStatsReport | undefined> }[] = []
    for (const pub of this.room.localParticipant.trackPublications.values()) if (pub.track) tracks.push(pub.track)
    for (const p of this.room.remoteParticipants.values()) for (const pub of p.trackPublications.values()) if (pub.track) tracks.push(pub.track as RemoteTrack)
    for (const track of tracks) {
      const report = await track.getRTCStatsReport().catch(() => undefined)
      for (const s of values(report)) {
        if (s.type === 'candidate-pair' && s.nominated && typeof s.currentRoundTripTime === 'number') return s.currentRoundTripTime * 1000
      }
    }
    return undefined
  }

  private async remote(p: RemoteParticipant): Promise<RemoteStats> {
    const out: RemoteStats = { identity: p.identity, name: p.name || p.identity, region: regionOf(p) }
    const camera = p.getTrackPublication(Track.Source.Camera)
    const microphone = p.getTrackPublication(Track.Source.Microphone)
    const [video, audio] = await Promise.all([inbound(camera?.track), inbound(microphone?.track)])
    if (camera && video) {
      const gap = this.gaps.get(p.identity)
      out.video = {
        muted: camera.isMuted,
        framesDecoded: video.framesDecoded ?? 0,
        bytesReceived: video.bytesReceived ?? 0,
        freezeCount: video.freezeCount ?? 0,
        totalFreezesDuration: video.totalFreezesDuration ?? 0,
        frameWidth: video.frameWidth ?? 0,
        frameHeight: video.frameHeight ?? 0,
        packetsLost: video.packetsLost ?? 0,
        nackCount: video.nackCount ?? 0,
        pliCount: video.pliCount ?? 0,
        keyFramesDecoded: video.keyFramesDecoded ?? 0,
        maxGapMs: gap?.longest ?? 0,
      }
      if (gap) gap.longest = 0
    }
    if (microphone && audio) {
      out.audio = {
        muted: microphone.isMuted,
        audioLevel: audio.audioLevel ?? 0,
        totalAudioEnergy: audio.totalAudioEnergy ?? 0,
        totalSamplesReceived: audio.totalSamplesReceived ?? 0,
        concealedSamples: audio.concealedSamples ?? 0,
      }
    }
    return out
  }
}

/** Region of a participant: the attribute, or else what the edge says in the participant's record, which the library keeps but does not export. */
export function regionOf(p: { attributes: Readonly<Record<string, string>> }): string | undefined {
  return p.attributes['meridian.region'] || (p as unknown as { participantInfo?: { region?: string } }).participantInfo?.region || undefined
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the DOM's type for a stats record is an empty shell
type Record_ = any

function values(report: RTCStatsReport | undefined): Record_[] {
  const out: Record_[] = []
  report?.forEach((s) => out.push(s))
  return out
}

async function inbound(track: { getRTCStatsReport?(): Promise<RTCStatsReport | undefined> } | undefined): Promise<Record_ | undefined> {
  const report = await track?.getRTCStatsReport?.().catch(() => undefined)
  return values(report).find((s) => s.type === 'inbound-rtp')
}
