// What the page remembers between visits, in localStorage. Storage that is full, blocked or
// holds nonsense is the same as an empty one.

export interface Prefs {
  name: string
  camera?: string
  microphone?: string
  cameraOn: boolean
  microphoneOn: boolean
}

const key = 'meridian.prefs'

export function loadPrefs(storage: Pick<Storage, 'getItem'> | undefined = safeStorage()): Prefs {
  const out: Prefs = { name: '', cameraOn: true, microphoneOn: true }
  try {
    const saved = JSON.parse(storage?.getItem(key) ?? '{}') as Partial<Record<keyof Prefs, unknown>> | null
    if (typeof saved?.name === 'string') out.name = saved.name.slice(0, 64)
    if (typeof saved?.camera === 'string') out.camera = saved.camera
    if (typeof saved?.microphone === 'string') out.microphone = saved.microphone
    if (typeof saved?.cameraOn === 'boolean') out.cameraOn = saved.cameraOn
    if (typeof saved?.microphoneOn === 'boolean') out.microphoneOn = saved.microphoneOn
  } catch {
    // nonsense in the storage
  }
  return out
}

export function savePrefs(prefs: Prefs, storage: Pick<Storage, 'setItem'> | undefined = safeStorage()): void {
  try {
    storage?.setItem(key, JSON.stringify(prefs))
  } catch {
    // full or blocked
  }
}

function safeStorage(): Storage | undefined {
  try {
    return globalThis.localStorage
  } catch {
    return undefined
  }
}
