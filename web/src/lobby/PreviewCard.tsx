import { useCallback, useEffect, useRef } from 'react'
import { hue, initials } from '../names'
import { AlertIcon, CameraIcon, CameraOffIcon, ChevronIcon, MicIcon, MicOffIcon } from '../ui/icons'
import { type Preview, useLevel } from './media'

interface DeviceState extends Preview {
  on: boolean
  toggle(): void
  list: MediaDeviceInfo[]
  id?: string
  choose(id: string): void
}

export function PreviewCard({ name, camera, microphone }: { name: string; camera: DeviceState; microphone: DeviceState }) {
  const problems = [camera.problem && { ...camera.problem, retry: camera.retry }, microphone.problem && { ...microphone.problem, retry: microphone.retry }].filter((p) => p !== undefined)
  return (
    <section className="preview" aria-label="Camera preview">
      <div className="preview-stage">
        {camera.stream ? (
          <SelfView stream={camera.stream} />
        ) : (
          <div className="preview-empty">
            <span className="avatar" style={{ '--hue': hue(name || 'guest') } as React.CSSProperties}>{initials(name)}</span>
            <p>{!camera.on ? 'Your camera is off' : camera.pending ? 'Waiting for the camera…' : 'Others will see your initials'}</p>
          </div>
        )}
        <Meter stream={microphone.stream} />
        <div className="preview-bar">
          <button type="button" className={`round ${microphone.on && !microphone.problem ? '' : 'off'}`} onClick={microphone.toggle} aria-pressed={microphone.on} aria-label={microphone.on ? 'Turn the microphone off' : 'Turn the microphone on'}>
            {microphone.on && !microphone.problem ? <MicIcon /> : <MicOffIcon />}
          </button>
          <button type="button" className={`round ${camera.on && !camera.problem ? '' : 'off'}`} onClick={camera.toggle} aria-pressed={camera.on} aria-label={camera.on ? 'Turn the camera off' : 'Turn the camera on'}>
            {camera.on && !camera.problem ? <CameraIcon /> : <CameraOffIcon />}
          </button>
        </div>
      </div>
      {problems.map((p) => (
        <div className="problem" role="alert" key={p.title}>
          <AlertIcon size={20} />
          <div>
            <strong>{p.title}</strong>
            <p>{p.text}</p>
          </div>
          <button type="button" className="button small" onClick={p.retry}>Try again</button>
        </div>
      ))}
      <div className="device-row">
        <Picker label="Microphone" icon={<MicIcon size={18} />} device={microphone} />
        <Picker label="Camera" icon={<CameraIcon size={18} />} device={camera} />
      </div>
    </section>
  )
}

function SelfView({ stream }: { stream: MediaStream }) {
  const ref = useRef<HTMLVideoElement>(null)
  useEffect(() => {
    if (ref.current) ref.current.srcObject = stream
  }, [stream])
  return <video ref={ref} className="mirrored" autoPlay playsInline muted aria-label="You, as others will see you" />
}

function Meter({ stream }: { stream?: MediaStream }) {
  const ref = useRef<HTMLDivElement>(null)
  const show = useCallback((level: number) => ref.current?.style.setProperty('--level', level.toFixed(3)), [])
  useLevel(stream, show)
  return (
    <div className="meter" ref={ref} role="img" aria-label={stream ? 'Microphone level' : 'Microphone silent'} data-on={Boolean(stream)}>
      <i /><i /><i /><i /><i />
    </div>
  )
}

function Picker({ label, icon, device }: { label: string; icon: React.ReactNode; device: DeviceState }) {
  const current = device.list.find((d) => d.deviceId === device.id) ?? device.list[0]
  return (
    <label className="picker">
      {icon}
      <span className="visually-hidden">{label}</span>
      <select value={current?.deviceId ?? ''} onChange={(e) => device.choose(e.target.value)} disabled={device.list.length === 0}>
        {device.list.length === 0 && <option value="">{`No ${label.toLowerCase()}`}</option>}
        {device.list.map((d, i) => (
          <option key={d.deviceId} value={d.deviceId}>{d.label || `${label} ${i + 1}`}</option>
        ))}
      </select>
      <ChevronIcon size={16} />
    </label>
  )
}
