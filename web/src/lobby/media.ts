// The lobby's own camera and microphone: opened for the preview, closed when the call takes over.
import { useCallback, useEffect, useState } from 'react'
import { type Device, deviceProblem, insecureProblem, type Problem } from '../problems'

export interface Preview {
  stream?: MediaStream
  problem?: Problem
  /** Still waiting for the person to answer the browser's question. */
  pending: boolean
  retry(): void
}

/** Opens one device while on is true; ideal device id, so that an unplugged one falls back. */
export function usePreview(device: Device, on: boolean, deviceId: string | undefined): Preview {
  const [state, setState] = useState<{ stream?: MediaStream; problem?: Problem; pending: boolean }>({ pending: on })
  const [attempt, setAttempt] = useState(0)

  useEffect(() => {
    if (!on) return
    let gone = false
    let opened: MediaStream | undefined
    const open = async () => {
      if (!navigator.mediaDevices?.getUserMedia) throw insecureProblem
      const id = deviceId ? { deviceId: { ideal: deviceId } } : {}
      return navigator.mediaDevices.getUserMedia(device === 'camera' ? { video: { ...id, width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: 'user' } } : { audio: id })
    }
    open().then(
      (stream) => {
        if (gone) return stop(stream)
        opened = stream
        setState({ stream, pending: false })
      },
      (err: unknown) => {
        if (!gone) setState({ problem: err === insecureProblem ? insecureProblem : deviceProblem(device, err), pending: false })
      },
    )
    return () => {
      gone = true
      if (opened) stop(opened)
      setState({ pending: true })
    }
  }, [device, on, deviceId, attempt])

  const retry = useCallback(() => setAttempt((n) => n + 1), [])
  return on ? { ...state, retry } : { pending: false, retry }
}

function stop(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop()
}

export interface Devices {
  cameras: MediaDeviceInfo[]
  microphones: MediaDeviceInfo[]
}

/** The devices there are; names appear once permission is given, so it looks again when `when` changes. */
export function useDevices(...when: unknown[]): Devices {
  const [devices, setDevices] = useState<Devices>({ cameras: [], microphones: [] })
  const key = when.map(Boolean).join()
  useEffect(() => {
    const media = navigator.mediaDevices
    if (!media?.enumerateDevices) return
    let gone = false
    const look = async () => {
      const all = await media.enumerateDevices().catch(() => [])
      const of = (kind: MediaDeviceKind) => all.filter((d) => d.kind === kind && d.deviceId)
      if (!gone) setDevices({ cameras: of('videoinput'), microphones: of('audioinput') })
    }
    void look()
    media.addEventListener('devicechange', look)
    return () => {
      gone = true
      media.removeEventListener('devicechange', look)
    }
  }, [key])
  return devices
}

/** Calls onLevel with 0…1 some 20 times per second while there is a stream. */
export function useLevel(stream: MediaStream | undefined, onLevel: (level: number) => void): void {
  useEffect(() => {
    if (!stream) return
    const context = new AudioContext()
    const analyser = context.createAnalyser()
    analyser.fftSize = 512
    const source = context.createMediaStreamSource(stream)
    source.connect(analyser)
    const samples = new Float32Array(analyser.fftSize)
    let shown = 0
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples)
      let sum = 0
      for (const s of samples) sum += s * s
      // −60 dBFS … 0 dBFS on a straight scale; falls slowly, as meters do
      const db = 10 * Math.log10(sum / samples.length + 1e-9)
      shown = Math.max(Math.min(1, Math.max(0, (db + 60) / 50)), shown * 0.85)
      onLevel(shown)
    }, 50)
    return () => {
      clearInterval(timer)
      onLevel(0)
      source.disconnect()
      void context.close()
    }
  }, [stream, onLevel])
}
