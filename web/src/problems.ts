// What went wrong, in words for the person in front of the page: each problem says the way out.
import { EdgeError, sentence } from './edges'

export interface Problem {
  title: string
  text: string
  /** Set when trying again is the way out and "rejoin" would be the wrong word: nobody was in yet. */
  retry?: boolean
}

export type Device = 'camera' | 'microphone'

/** A getUserMedia failure. */
export function deviceProblem(device: Device, err: unknown): Problem {
  const name = (err as { name?: string } | null)?.name ?? ''
  const Device = device === 'camera' ? 'Camera' : 'Microphone'
  switch (name) {
    case 'NotAllowedError':
    case 'PermissionDeniedError':
    case 'SecurityError':
      return { title: `${Device} is blocked`, text: `Allow the ${device} in the site settings next to the address bar, then try again. You can also join without it.` }
    case 'NotFoundError':
    case 'DevicesNotFoundError':
    case 'OverconstrainedError':
      return { title: `No ${device} found`, text: `Connect one and try again, or join without it: you will still ${device === 'camera' ? 'see' : 'hear'} everybody.` }
    case 'NotReadableError':
    case 'TrackStartError':
    case 'AbortError':
      return { title: `${Device} is in use`, text: `Another app or tab holds the ${device}. Close it there, then try again.` }
    default:
      return { title: `${Device} does not start`, text: `${(err as Error | null)?.message || 'The browser gave no reason.'} Choose another ${device}, or reload the page.` }
  }
}

/** No getUserMedia at all: the page was not loaded from a secure origin. */
export const insecureProblem: Problem = {
  title: 'Camera and microphone need a secure page',
  text: 'Open this page over https, or from localhost, and they will be offered.',
}

// ConnectionErrorReason of livekit-client, by number: this file must not pull the library into the first chunk.
const notAllowed = 0
const cancelled = 3

/** Whether another edge may succeed where this one failed. */
export function worthAnotherEdge(err: unknown): boolean {
  const e = err as { name?: string; reason?: number; status?: number } | null
  if (e?.name !== 'ConnectionError') return true
  return e.reason !== notAllowed && e.reason !== cancelled && !(e.status !== undefined && e.status >= 400 && e.status < 500)
}

/** A failure to join. */
export function joinProblem(err: unknown): Problem {
  return { ...joinText(err), retry: true }
}

function joinText(err: unknown): Problem {
  if (err instanceof EdgeError) {
    if (err.kind === 'refused') {
      return { title: 'The server did not let you in', text: `${sentence(err.message)} If that does not help, ask whoever invited you for a new link.` }
    }
    if (err.kind === 'no-edge') return { title: 'No edge is free', text: 'No node of the mesh takes calls at the moment. Try again in a minute.' }
    return { title: 'The server cannot be reached', text: 'Check your connection, then try again. No other edge answered either.' }
  }
  const e = err as { name?: string; reason?: number; message?: string } | null
  if (e?.name === 'ConnectionError' && !worthAnotherEdge(err)) {
    return { title: 'Your pass was refused', text: `${sentence(e.message ?? '')} It may have expired: go back to the lobby and join again to get a new one.` }
  }
  return { title: 'The call could not be set up', text: 'None of the edges could be reached. Check your connection, and that a firewall lets WebSocket and UDP through, then try again.' }
}

/** Why a call ended, from livekit-client's DisconnectReason by name; undefined when the person left by themselves. */
export function endProblem(reason: string | undefined): Problem | undefined {
  switch (reason) {
    case 'CLIENT_INITIATED':
      return undefined
    case 'DUPLICATE_IDENTITY':
      return { title: 'You joined from somewhere else', text: 'The call went on there. Rejoin to bring it back here.' }
    case 'PARTICIPANT_REMOVED':
      return { title: 'You were removed from the call', text: 'Ask the host to let you in again.' }
    case 'ROOM_DELETED':
    case 'ROOM_CLOSED':
      return { title: 'The call was closed', text: 'Everybody was sent home. Rejoin to start it anew.' }
    default:
      return { title: 'The connection was lost', text: 'Check your connection and rejoin: the call may still be going on.' }
  }
}
