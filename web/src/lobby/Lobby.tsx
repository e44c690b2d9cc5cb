import { type FormEvent, useState } from 'react'
import { type Edge, regions } from '../edges'
import { cleanRoom } from '../names'
import type { Params } from '../params'
import type { Prefs } from '../prefs'
import { AlertIcon, Logo } from '../ui/icons'
import { useDevices, usePreview } from './media'
import { PreviewCard } from './PreviewCard'
import { RegionPicker } from './RegionPicker'
import { useEdges } from './useEdges'

export interface LobbyChoice {
  room: string
  name: string
  region?: string
  edges: Edge[]
  camera?: string
  microphone?: string
  cameraOn: boolean
  microphoneOn: boolean
}

interface Props {
  params: Params
  room: string
  prefs: Prefs
  loadFailed: boolean
  onJoin(choice: LobbyChoice): Promise<void>
}

export function Lobby({ params, room: initialRoom, prefs, loadFailed, onJoin }: Props) {
  const [name, setName] = useState(params.name ?? prefs.name)
  const [room, setRoom] = useState(initialRoom)
  const [region, setRegion] = useState(params.region)
  const [cameraOn, setCameraOn] = useState(prefs.cameraOn)
  const [microphoneOn, setMicrophoneOn] = useState(prefs.microphoneOn)
  const [cameraId, setCameraId] = useState(prefs.camera)
  const [microphoneId, setMicrophoneId] = useState(prefs.microphone)
  const [joining, setJoining] = useState(false)

  const camera = usePreview('camera', cameraOn && !joining, cameraId)
  const microphone = usePreview('microphone', microphoneOn && !joining, microphoneId)
  const devices = useDevices(camera.stream, microphone.stream)
  const { edges, state, retry } = useEdges(params.clientIp)

  const submit = async (e: FormEvent) => {
    e.preventDefault()
    setJoining(true)
    await onJoin({
      room: cleanRoom(room) || initialRoom,
      name: name.trim() || 'Guest',
      region,
      edges,
      camera: cameraId,
      microphone: microphoneId,
      cameraOn: cameraOn && !camera.problem,
      microphoneOn: microphoneOn && !microphone.problem,
    })
    setJoining(false)
  }

  return (
    <div className="lobby">
      <header className="lobby-head">
        <Logo />
        <span className="wordmark">Meridian</span>
      </header>
      <main className="lobby-main">
        <PreviewCard
          name={name}
          camera={{ ...camera, on: cameraOn, toggle: () => setCameraOn(!cameraOn), list: devices.cameras, id: cameraId, choose: setCameraId }}
          microphone={{ ...microphone, on: microphoneOn, toggle: () => setMicrophoneOn(!microphoneOn), list: devices.microphones, id: microphoneId, choose: setMicrophoneId }}
        />
        <form className="lobby-form" onSubmit={(e) => void submit(e)}>
          <div className="lobby-title">
            <h1>{params.room ? 'Ready to join?' : 'Start a call'}</h1>
            <p>{params.room ? 'You were invited to this room.' : 'Share the room with anyone, anywhere. Each joins at the edge next door.'}</p>
          </div>
          {loadFailed && (
            <div className="problem" role="alert">
              <AlertIcon size={20} />
              <div><strong>The call could not be loaded</strong><p>Check your connection and reload the page.</p></div>
            </div>
          )}
          <label className="field">
            <span>Your name</span>
            <input value={name} onChange={(e) => setName(e.target.value)} placeholder="How others see you" autoComplete="name" maxLength={64} enterKeyHint="go" data-testid="name" />
          </label>
          <label className="field">
            <span>Room</span>
            <input value={room} onChange={(e) => setRoom(e.target.value)} autoCapitalize="none" autoComplete="off" spellCheck={false} maxLength={64} required enterKeyHint="go" data-testid="room" />
          </label>
          <RegionPicker regions={regions(edges)} state={state} pinned={region} onPin={setRegion} onRetry={retry} />
          <button type="submit" className="button primary join" disabled={joining} data-testid="join">
            {joining ? 'Joining…' : 'Join'}
          </button>
          <p className="fineprint">Nobody sees or hears you until you join.</p>
        </form>
      </main>
      <footer className="lobby-foot">
        {/* asked for by the licence of the location data (CC BY 4.0) */}
        <a href="https://db-ip.com" rel="noreferrer" target="_blank">IP Geolocation by DB-IP</a>
      </footer>
    </div>
  )
}
