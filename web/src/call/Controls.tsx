import type { ReactNode } from 'react'
import { CameraIcon, CameraOffIcon, ChatIcon, InfoIcon, InviteIcon, LeaveIcon, MicIcon, MicOffIcon, ScreenIcon } from '../ui/icons'
import type { Snapshot } from './session'

interface Props {
  snapshot: Snapshot
  panel?: 'chat' | 'info'
  unread: number
  onMic(): void
  onCamera(): void
  onScreen(): void
  onChat(): void
  onInfo(): void
  onInvite(): void
  onLeave(): void
}

const canShareScreen = typeof navigator !== 'undefined' && 'getDisplayMedia' in (navigator.mediaDevices ?? {}) && matchMedia('(pointer: fine)').matches

export function Controls({ snapshot: s, panel, unread, ...on }: Props) {
  const live = s.phase === 'connected'
  return (
    <nav className="controls" aria-label="Call controls">
      <div className="controls-group">
        <Control label={s.micOn ? 'Mute' : 'Unmute'} hint="M" state={s.micOn ? '' : 'off'} disabled={!live} onClick={on.onMic} testid="mic">{s.micOn ? <MicIcon /> : <MicOffIcon />}</Control>
        <Control label={s.cameraOn ? 'Stop video' : 'Start video'} hint="V" state={s.cameraOn ? '' : 'off'} disabled={!live} onClick={on.onCamera} testid="camera">{s.cameraOn ? <CameraIcon /> : <CameraOffIcon />}</Control>
        {canShareScreen && (
          <Control label={s.screenOn ? 'Stop sharing' : 'Share screen'} state={s.screenOn ? 'on' : ''} disabled={!live} onClick={on.onScreen} testid="screen"><ScreenIcon /></Control>
        )}
        <Control label="Chat" state={panel === 'chat' ? 'on' : ''} badge={unread} onClick={on.onChat} testid="chat"><ChatIcon /></Control>
        <Control label="Invite" onClick={on.onInvite} testid="invite"><InviteIcon /></Control>
        <Control label="Call info" state={panel === 'info' ? 'on' : ''} onClick={on.onInfo} testid="info"><InfoIcon /></Control>
        <Control label="Leave" state="leave" onClick={on.onLeave} testid="leave"><LeaveIcon size={24} /></Control>
      </div>
    </nav>
  )
}

interface ControlProps {
  label: string
  hint?: string
  state?: '' | 'on' | 'off' | 'leave'
  badge?: number
  disabled?: boolean
  testid: string
  onClick(): void
  children: ReactNode
}

function Control({ label, hint, state = '', badge = 0, disabled, testid, onClick, children }: ControlProps) {
  return (
    <button type="button" className={`control ${state}`} onClick={onClick} disabled={disabled} aria-label={badge > 0 ? `${label}, ${badge} new` : label} aria-keyshortcuts={hint} title={hint ? `${label} (${hint})` : label} data-testid={testid}>
      <span className="control-icon">{children}{badge > 0 && <b className="badge">{badge > 9 ? '9+' : badge}</b>}</span>
      <span className="control-label" aria-hidden="true">{label}</span>
    </button>
  )
}
