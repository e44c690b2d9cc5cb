import type { Problem } from '../problems'
import { Logo } from '../ui/icons'

interface Props {
  room: string
  problem?: Problem
  onRejoin(): void
  onLobby(): void
}

export function Ended({ room, problem, onRejoin, onLobby }: Props) {
  return (
    <main className="ended">
      <div className="ended-card" role={problem ? 'alert' : undefined}>
        <Logo size={44} />
        <h1>{problem?.title ?? 'You left the call'}</h1>
        <p>{problem?.text ?? <>The room <strong>{room}</strong> stays open while somebody is in it.</>}</p>
        <div className="ended-actions">
          <button type="button" className="button primary" onClick={onRejoin} autoFocus data-testid="rejoin">{problem?.retry ? 'Try again' : 'Rejoin'}</button>
          <button type="button" className="button" onClick={onLobby}>Back to the lobby</button>
        </div>
      </div>
    </main>
  )
}
