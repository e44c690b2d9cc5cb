import { useEffect, useState } from 'react'
import { regionLabel } from '../edges'
import { CloseIcon, MicIcon, MicOffIcon } from '../ui/icons'
import type { Session, Snapshot } from './session'

export function InfoPanel({ session, snapshot: s, onClose }: { session: Session; snapshot: Snapshot; onClose(): void }) {
  const [rtt, setRtt] = useState<number>()
  useEffect(() => {
    let gone = false
    const look = async () => {
      const ms = await session.inspect.rtt()
      if (!gone) setRtt(ms)
    }
    void look()
    const timer = setInterval(() => void look(), 2000)
    return () => {
      gone = true
      clearInterval(timer)
    }
  }, [session])

  const people = s.tiles.filter((t) => !t.screen)
  return (
    <aside className="panel" aria-label="Call info" data-testid="info-panel">
      <header className="panel-head">
        <h2>Call info</h2>
        <button type="button" className="icon-button" onClick={onClose} aria-label="Close call info"><CloseIcon /></button>
      </header>
      <div className="panel-scroll">
        <dl className="facts">
          <div><dt>Region</dt><dd>{s.region ? regionLabel(s.region) : '—'}</dd></div>
          <div><dt>Edge</dt><dd>{s.url?.replace(/^wss?:\/\//, '') ?? '—'}</dd></div>
          <div><dt>Round trip</dt><dd>{rtt === undefined ? '—' : `${rtt < 10 ? rtt.toFixed(1) : Math.round(rtt)} ms`}</dd></div>
        </dl>
        <h3>In this call</h3>
        <ul className="people">
          {people.map((p) => (
            <li key={p.key}>
              <span className="people-name">{p.name}{p.local && <em> you</em>}</span>
              {p.region && <span className="people-region">{regionLabel(p.region)}</span>}
              {p.micOn ? <MicIcon size={17} /> : <MicOffIcon size={17} />}
            </li>
          ))}
        </ul>
        <p className="panel-hint"><kbd>M</kbd> microphone <kbd>V</kbd> camera <kbd>Esc</kbd> close</p>
      </div>
    </aside>
  )
}
