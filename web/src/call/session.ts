// One call from join to leave: owns the livekit-client Room and turns its events into
// immutable snapshots that the components render.
import {
  ConnectionState, DisconnectReason, type LocalTrack, MediaDeviceFailure, type Participant, type ReconnectContext, type RemoteTrack, Room,
  RoomEvent, Track, VideoPresets,
} from 'livekit-client'
import { candidates, type Candidate, type Grant, requestGrant, type Edge } from '../edges'
import type { Codec } from '../params'
import { type Device, deviceProblem, endProblem, joinProblem, type Problem, worthAnotherEdge } from '../problems'
import { Inspector } from './inspect'
import { type ChatEntry, type Tile, tilesOf } from './view'

export interface JoinRequest {
  room: string
  name: string
  identity: string
  /** Pinned by the person; undefined takes the nearest. */
  region?: string
  clientIp?: string
  pass?: string
  edges: Edge[]
  camera?: string
  microphone?: string
  cameraOn: boolean
  microphoneOn: boolean
  singlePeerConnection?: boolean
  video: 360 | 540 | 720
  codec: Codec
}

export type Phase = 'connecting' | 'connected' | 'reconnecting' | 'moving' | 'ended'

export interface Snapshot {
  phase: Phase
  /** Set with phase 'ended', unless the person left by themselves. */
  problem?: Problem
  /** Something that went wrong without ending the call. */
  notice?: Problem
  tiles: Tile[]
  chat: ChatEntry[]
  micOn: boolean
  cameraOn: boolean
  screenOn: boolean
  audioBlocked: boolean
  region?: string
  url?: string
}

const chatTopic = 'chat'
const maxChatEntries = 500
export const maxChatLength = 2000

/** How often the whole list of edges is tried before the call is given up. */
const moveRounds = 3

const final = new Set<DisconnectReason | undefined>([
  DisconnectReason.CLIENT_INITIATED, DisconnectReason.DUPLICATE_IDENTITY, DisconnectReason.PARTICIPANT_REMOVED,
  DisconnectReason.ROOM_DELETED, DisconnectReason.ROOM_CLOSED,
])

export class Session {
  readonly room: Room
  readonly inspect: Inspector
  private snapshot: Snapshot
  private listeners = new Set<() => void>()
  private dirty = false
  private phase: Phase = 'connecting'
  private problem?: Problem
  private notice?: Problem
  private chat: ChatEntry[] = []
  private nextChatId = 1
  private grant?: Grant
  private edge?: Candidate
  private wantMic: boolean
  private wantCamera: boolean
  private left = false
  private connecting = false

  constructor(readonly req: JoinRequest) {
    this.wantMic = req.microphoneOn
    this.wantCamera = req.cameraOn
    const size = req.video === 360 ? VideoPresets.h360 : req.video === 540 ? VideoPresets.h540 : VideoPresets.h720
    this.room = new Room({
      adaptiveStream: true,
      dynacast: true,
      ...(req.singlePeerConnection === undefined ? {} : { singlePeerConnection: req.singlePeerConnection }),
      audioCaptureDefaults: { deviceId: req.microphone, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      videoCaptureDefaults: { deviceId: req.camera, resolution: { ...size.resolution, frameRate: req.video === 360 ? 15 : 30 } },
      publishDefaults: { videoCodec: req.codec, simulcast: true, dtx: true, stopMicTrackOnMute: false },
      reconnectPolicy: { nextRetryDelayInMs: (c) => this.retryDelay(c) },
    })
    this.inspect = new Inspector(this.room, () => ({ url: this.edge?.url, region: this.edge?.region }))
    this.listen()
    this.snapshot = this.build()
    window.__meridian = { room: this.room, stats: () => this.inspect.stats() }
  }

  // for useSyncExternalStore
  subscribe = (listener: () => void) => {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }
  getSnapshot = () => this.snapshot

  /** Joins; resolves when the call runs or has failed (see the snapshot). Never rejects. */
  async start(): Promise<void> {
    const tracks = this.capture()
    try {
      const { room, name, identity, region, clientIp, pass } = this.req
      this.grant = await requestGrant({ room, name, identity, region, clientIp, pass }, this.req.edges)
      await this.connectAny(candidates(this.grant, region))
      this.setPhase('connected')
      await this.publish(await tracks)
    } catch (err) {
      for (const t of await tracks) t.stop()
      if (!this.left) this.end(joinProblem(err))
    }
  }

  leave(): void {
    this.left = true
    void this.room.disconnect(true)
    this.end(undefined)
  }

  async toggleMic(): Promise<void> {
    this.wantMic = !this.room.localParticipant.isMicrophoneEnabled
    await this.guard('microphone', () => this.room.localParticipant.setMicrophoneEnabled(this.wantMic))
  }

  async toggleCamera(): Promise<void> {
    this.wantCamera = !this.room.localParticipant.isCameraEnabled
    await this.guard('camera', () => this.room.localParticipant.setCameraEnabled(this.wantCamera))
  }

  async toggleScreen(): Promise<void> {
    try {
      await this.room.localParticipant.setScreenShareEnabled(!this.room.localParticipant.isScreenShareEnabled, { audio: true, contentHint: 'detail' })
    } catch (err) {
      // closing the browser's picker is a choice, not a failure
      if ((err as Error).name !== 'NotAllowedError') this.notify({ title: 'The screen cannot be shared', text: 'Choose another window or screen, and try again.' })
    }
    this.changed()
  }

  async say(text: string): Promise<void> {
    const trimmed = text.trim().slice(0, maxChatLength)
    if (!trimmed) return
    try {
      await this.room.localParticipant.publishData(new TextEncoder().encode(JSON.stringify({ text: trimmed })), { reliable: true, topic: chatTopic })
      this.addChat({ from: this.req.name, local: true, text: trimmed })
    } catch {
      this.notify({ title: 'Your message was not sent', text: 'The connection is interrupted. Try again when the call is back.' })
    }
  }

  async startAudio(): Promise<void> {
    await this.room.startAudio().catch(() => undefined)
    this.changed()
  }

  dismissNotice(): void {
    this.notify(undefined)
  }

  // ---- connecting

  private async connectAny(list: Candidate[]): Promise<void> {
    let last: unknown = new Error('no edge to connect to')
    this.connecting = true
    try {
      for (const c of list) {
        if (this.left) throw last
        try {
          this.inspect.connectStarted()
          // One try per edge when there is another: the next one is the better retry.
          await this.room.connect(c.url, this.grant!.participant_token, { maxRetries: list.length > 1 ? 0 : 2, websocketTimeout: 5000, peerConnectionTimeout: 10_000 })
          this.inspect.connected()
          this.edge = c
          return
        } catch (err) {
          last = err
          if (!worthAnotherEdge(err)) throw err
        }
      }
      throw last
    } finally {
      this.connecting = false
    }
  }

  /** The library's own back-off, cut short when another edge can take over. */
  private retryDelay({ retryCount, elapsedMs }: ReconnectContext): number | null {
    const others = (this.grant?.edges.filter((e) => !e.draining).length ?? 0) > 1
    if (others && navigator.onLine && retryCount >= 3 && elapsedMs > 3000) return null
    return [0, 300, 1200, 2700, 4800][retryCount] ?? (retryCount < 12 ? 7000 : null)
  }

  private async onDisconnected(reason: DisconnectReason | undefined): Promise<void> {
    if (this.left || this.connecting || this.phase === 'ended') return
    if (final.has(reason)) {
      return this.end(endProblem(reason === undefined ? undefined : DisconnectReason[reason]))
    }
    this.setPhase('moving')
    const tracks = this.capture()
    try {
      await this.move()
      this.setPhase('connected')
      await this.publish(await tracks)
    } catch {
      for (const t of await tracks) t.stop()
      if (!this.left) this.end(endProblem(undefined))
    }
  }

  /** Connects to another edge: those that have not just failed first. */
  private async move(): Promise<void> {
    const all = candidates(this.grant!)
    const list = [...all.filter((c) => c.url !== this.edge?.url), ...all.filter((c) => c.url === this.edge?.url)]
    for (let round = 1; ; round++) {
      try {
        return await this.connectAny(list)
      } catch (err) {
        if (this.left || round === moveRounds || !worthAnotherEdge(err)) throw err
        await new Promise((r) => setTimeout(r, 1000 * round))
      }
    }
  }

  // ---- own tracks

  /** Opens what the person wants to publish, while the connection is being made. Never rejects. */
  private async capture(): Promise<LocalTrack[]> {
    const open = async (device: Device, wanted: boolean) => {
      if (!wanted) return []
      try {
        return await this.room.localParticipant.createTracks(device === 'camera' ? { video: true } : { audio: true })
      } catch (err) {
        this.deviceFailed(device, err)
        return []
      }
    }
    return (await Promise.all([open('microphone', this.wantMic), open('camera', this.wantCamera)])).flat()
  }

  private async publish(tracks: LocalTrack[]): Promise<void> {
    await Promise.all(
      tracks.map(async (track) => {
        try {
          await this.room.localParticipant.publishTrack(track)
        } catch {
          track.stop()
          const what = track.kind === Track.Kind.Video ? 'camera' : 'microphone'
          this.notify({ title: `Your ${what} could not be sent`, text: `Switch the ${what} off and on again.` })
        }
      }),
    )
    this.changed()
  }

  private async guard(device: Device, f: () => Promise<unknown>): Promise<void> {
    try {
      await f()
    } catch (err) {
      this.deviceFailed(device, err)
    }
    this.changed()
  }

  private deviceFailed(device: Device, err: unknown): void {
    if (device === 'camera') this.wantCamera = false
    else this.wantMic = false
    if (MediaDeviceFailure.getFailure(err) || err instanceof Error) this.notify(deviceProblem(device, err))
  }

  // ---- events

  private listen(): void {
    const changed = () => this.changed()
    this.room
      .on(RoomEvent.Disconnected, (reason) => void this.onDisconnected(reason))
      .on(RoomEvent.Reconnecting, () => this.setPhase('reconnecting'))
      .on(RoomEvent.SignalReconnecting, () => this.setPhase('reconnecting'))
      .on(RoomEvent.Reconnected, () => this.setPhase('connected'))
      .on(RoomEvent.TrackSubscribed, (track) => this.play(track))
      .on(RoomEvent.TrackUnsubscribed, (track) => this.unplay(track))
      .on(RoomEvent.DataReceived, (payload, from, _kind, topic) => this.onData(payload, from, topic))
      .on(RoomEvent.MediaDevicesError, (err, kind) => this.deviceFailed(kind === 'videoinput' ? 'camera' : 'microphone', err))
    for (const event of [
      RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.TrackMuted, RoomEvent.TrackUnmuted, RoomEvent.TrackPublished,
      RoomEvent.TrackUnpublished, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished, RoomEvent.ActiveSpeakersChanged,
      RoomEvent.ConnectionQualityChanged, RoomEvent.ParticipantNameChanged, RoomEvent.ParticipantAttributesChanged,
      RoomEvent.AudioPlaybackStatusChanged, RoomEvent.ConnectionStateChanged,
    ] as const) {
      this.room.on(event, changed)
    }
  }

  private play(track: RemoteTrack): void {
    if (track.kind === Track.Kind.Audio) {
      const element = track.attach()
      element.hidden = true
      document.body.append(element)
    }
    this.changed()
  }

  private unplay(track: RemoteTrack): void {
    for (const element of track.detach()) if (element instanceof HTMLAudioElement) element.remove()
    this.changed()
  }

  private onData(payload: Uint8Array, from: Participant | undefined, topic: string | undefined): void {
    if (topic !== chatTopic) return
    try {
      const { text } = JSON.parse(new TextDecoder().decode(payload)) as { text?: unknown }
      if (typeof text === 'string' && text) this.addChat({ from: from?.name || from?.identity || 'Somebody', local: false, text: text.slice(0, maxChatLength) })
    } catch {
      // another application's idea of a chat message
    }
  }

  private addChat(entry: Pick<ChatEntry, 'from' | 'local' | 'text'>): void {
    this.chat = [...this.chat, { ...entry, id: this.nextChatId++, at: new Date() }].slice(-maxChatEntries)
    this.changed()
  }

  // ---- snapshots

  private setPhase(phase: Phase): void {
    if (this.phase === 'ended') return
    this.phase = phase
    this.changed()
  }

  private notify(notice: Problem | undefined): void {
    this.notice = notice
    this.changed()
  }

  private end(problem: Problem | undefined): void {
    if (this.phase === 'ended') return
    this.phase = 'ended'
    this.problem = problem
    for (const p of this.room.remoteParticipants.values()) {
      for (const pub of p.trackPublications.values()) if (pub.track) this.unplay(pub.track as RemoteTrack)
    }
    this.changed()
  }

  /** Several events of one turn make one snapshot. */
  private changed(): void {
    if (this.dirty) return
    this.dirty = true
    queueMicrotask(() => {
      this.dirty = false
      this.snapshot = this.build()
      for (const l of this.listeners) l()
    })
  }

  private build(): Snapshot {
    const local = this.room.localParticipant
    const remotes = [...this.room.remoteParticipants.values()].sort((a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0) || (a.identity < b.identity ? -1 : 1))
    const people = this.room.state === ConnectionState.Disconnected ? [local] : [...remotes, local]
    const me = { identity: this.req.identity, name: this.req.name, region: this.edge?.region }
    return {
      phase: this.phase,
      problem: this.problem,
      notice: this.notice,
      tiles: people.flatMap((p) => tilesOf(p, me)),
      chat: this.chat,
      micOn: local.isMicrophoneEnabled,
      cameraOn: local.isCameraEnabled,
      screenOn: local.isScreenShareEnabled,
      audioBlocked: !this.room.canPlaybackAudio,
      region: this.edge?.region,
      url: this.edge?.url,
    }
  }
}
