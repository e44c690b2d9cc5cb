import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react'
import { regionLabel } from '../edges'
import { inviteLink } from '../params'
import type { Problem } from '../problems'
import { AlertIcon, CloseIcon, Logo, SpeakerIcon } from '../ui/icons'
import { ChatPanel } from './ChatPanel'
import { Controls } from './Controls'
import { InfoPanel } from './InfoPanel'
import type { JoinRequest, Session } from './session'
import { Stage } from './Stage'

interface Props {
  session: Session
  onEnded(request: JoinRequest, problem: Problem | undefined): void
}

type Panel = 'chat' | 'info' | undefined

export default function Call({ session, onEnded }: Props) {
  const s = useSyncExternalStore(session.subscribe, session.getSnapshot)
  const [panel, setPanel] = useState<Panel>()
  const [read, setRead] = useState(0)
  const [toast, setToast] = useState('')
  const toastTimer = useRef<ReturnType<typeof setTimeout>>(undefined)

  useEffect(() => {
    if (s.phase === 'ended') onEnded(session.req, s.problem)
  }, [s.phase, s.problem, session, onEnded])

  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if (e.ctrlKey || e.metaKey || e.altKey || e.repeat) return
      const target = e.target as HTMLElement
      if (target.closest('input, textarea, select')) return
      if (e.key === 'm' || e.key === 'M') void session.toggleMic()
      else if (e.key === 'v' || e.key === 'V') void session.toggleCamera()
      else if (e.key === 'Escape') setPanel(undefined)
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [session])

  const say = useCallback((text: string) => {
    setToast(text)
    clearTimeout(toastTimer.current)
    toastTimer.current = setTimeout(() => setToast(''), 2600)
  }, [])

  const invite = async () => {
    const link = inviteLink(location.href, session.req.room)
    try {
      if (navigator.share && matchMedia('(pointer: coarse)').matches) await navigator.share({ title: 'Join me on Meridian', url: link })
      else {
        await navigator.clipboard.writeText(link)
        say('Invite link copied')
      }
    } catch (err) {
      if ((err as Error).name !== 'AbortError') prompt('Copy this link to invite others', link)
    }
  }

  const open = (p: Panel) => {
    if (panel === 'chat') setRead(s.chat.length)
    setPanel(panel === p ? undefined : p)
  }
  const unread = panel === 'chat' ? 0 : s.chat.slice(read).filter((c) => !c.local).length
  const alone = s.phase === 'connected' && s.tiles.every((t) => t.local)

  return (
    <div className="call" data-phase={s.phase} data-testid="call">
      <header className="call-head">
        <Logo size={26} />
        <h1>{session.req.room}</h1>
        {s.region && <span className="pill">{regionLabel(s.region)}</span>}
        <span className="call-count" aria-live="polite">{count(s.tiles.filter((t) => !t.screen).length)}</span>
      </header>

      <div className="banners" aria-live="assertive">
        {s.phase === 'connecting' && <div className="banner"><i className="spinner" />Connecting…</div>}
        {s.phase === 'reconnecting' && <div className="banner warn"><i className="spinner" />Connection interrupted. Reconnecting…</div>}
        {s.phase === 'moving' && <div className="banner warn"><i className="spinner" />This edge is gone. Moving you to the next one…</div>}
        {s.audioBlocked && (
          <button type="button" className="banner action" onClick={() => void session.startAudio()}><SpeakerIcon size={18} />Tap to hear the others</button>
        )}
        {s.notice && (
          <div className="banner bad" role="alert">
            <AlertIcon size={18} />
            <span><strong>{s.notice.title}.</strong> {s.notice.text}</span>
            <button type="button" className="banner-close" aria-label="Dismiss" onClick={() => session.dismissNotice()}><CloseIcon size={18} /></button>
          </div>
        )}
      </div>

      <div className="call-body">
        <Stage tiles={s.tiles} inspect={session.inspect} alone={alone} onInvite={() => void invite()} />
        {panel === 'chat' && <ChatPanel chat={s.chat} onSend={(t) => void session.say(t)} onClose={() => open('chat')} />}
        {panel === 'info' && <InfoPanel session={session} snapshot={s} onClose={() => open('info')} />}
      </div>

      <Controls
        snapshot={s}
        panel={panel}
        unread={unread}
        onMic={() => void session.toggleMic()}
        onCamera={() => void session.toggleCamera()}
        onScreen={() => void session.toggleScreen()}
        onChat={() => open('chat')}
        onInfo={() => open('info')}
        onInvite={() => void invite()}
        onLeave={() => session.leave()}
      />
      <div className="toast" role="status" data-on={toast !== ''}>{toast}</div>
    </div>
  )
}

function count(n: number): string {
  return n === 1 ? 'Only you' : `${n} people`
}
